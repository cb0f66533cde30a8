"""ObsPy streams to arrays of one instrument each, and back.

``records`` stands on ``axis``, and that on ``pieces``, ``gaps`` and ``filtering``; the network sees ``windows``.
"""
