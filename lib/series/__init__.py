"""The series: parameters, launching notebooks, what notebooks call first and last, the command line."""
