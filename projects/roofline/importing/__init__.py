"""Roofs that others have labelled, read into this room's layout: `annotations.json` beside `images/`.

One reader a format (:mod:`wireframe_json`, :mod:`segments`, :mod:`roof_graphs`, :mod:`seed_folder`); all return a
:class:`~projects.roofline.importing.reading.Reading`, which :func:`~projects.roofline.importing.writing.write_import`
splits and writes.
"""
