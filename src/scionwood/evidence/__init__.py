"""Evidence: from rows of predictions to figures that hold.

``rows`` scores predictions, ``intervals`` and ``paired`` hold the statistics, ``leaks`` guards the splits, ``figures`` (with
``comparisons``, ``slices`` and ``controls``) writes everything that a card may say, and ``verify`` checks that it still does.
"""
