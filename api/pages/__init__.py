"""What people see in a browser: templates, one style sheet, small scripts that call this very API."""
