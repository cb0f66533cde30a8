"""SeisBench datasets to pairs of earthquake and noise: ``datasets`` → ``stores`` → ``augmentations`` → ``pairs``."""
