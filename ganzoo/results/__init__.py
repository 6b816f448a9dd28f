"""What a run has to show: its generator, samples, scores, tables and plots."""
