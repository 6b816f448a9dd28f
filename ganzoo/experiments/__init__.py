"""Many runs: benchmarks over architectures, datasets and seeds; their verification; speedruns."""
