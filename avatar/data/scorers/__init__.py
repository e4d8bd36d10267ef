"""One scorer a file; each registers itself by name (`avatar.data.scorer.register`)."""
