"""One training on several devices: a process for each, which together take the steps that one would take."""
