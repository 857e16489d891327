"""P3: a comparator that sleeps longer than its session, and wakes up while another one has its partitions."""
