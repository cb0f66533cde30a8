"""Seismograms from a sentence."""
