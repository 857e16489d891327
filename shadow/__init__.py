"""Shadow: mirror live requests to a candidate, grade both answers, decide on proof."""
