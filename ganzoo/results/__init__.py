"""Results of runs: generators, samples, scores, tables and plots."""
