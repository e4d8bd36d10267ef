"""Published systems as files: what each needs, how large that is, where it lies, how it is fetched and loaded."""
