"""From photos to a prompt file: `adapt` and what it can be told, the task it makes of the photos, and how an interrupted run resumes."""
