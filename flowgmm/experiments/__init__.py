"""From the config to jobs, and what a job does."""
