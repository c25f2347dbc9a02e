"""The comparison of methods: sweep files for `fedsim sweep`, and what makes tables and figures of their runs."""
