module shadow.dev/benchmarks/proxy/load

go 1.21
