"""ObsPy streams to arrays of one instrument each, and back.

``records`` stand on ``pieces``, ``gaps`` and ``filtering``; the network sees ``windows``.
"""
