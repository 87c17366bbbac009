"""The notebooks as a series: their parameters, launching them, what they call first and last, sweeps."""
