"""The paper's experiments: jobs from protocols, run one by one or side by side, and what they say together."""
