"""4. Working together: persona files, an expert, a coordinator."""
