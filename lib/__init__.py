"""German traffic sign recognition on CPUs, from data to a decision.

Imports point downwards only: errors, files < signs < records < data < model < training
< backends < bench < report < series. Importing a package imports no inference runtime.
"""
