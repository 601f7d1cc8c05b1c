"""The paper's experiments: jobs from protocols, run one after the other or in parallel, and their results."""
