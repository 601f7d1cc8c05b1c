"""From photos to a prompt file: `adapt`, its options, its task, and how an interrupted run resumes."""
