"""Files of seismograms denoised to other files, of any length, piece by piece."""
