"""Results as pictures: thumbnails with boxes drawn on them, on one PNG or HTML sheet, or in the cells of a table.

::

    from aidb.surfaces.pictures import sheet

    cur = con.execute("SELECT image, label, xmin, ymin, xmax, ymax FROM frames JOIN box USING (frame_id)")
    print(sheet(cur, "buses.html"))        # buses.html: 60 pictures, 12 more left out

Nothing here fails for a picture that can't be read: a grey tile says why in its place.
"""

from aidb.surfaces.pictures.sheet import Sheet, sheet

__all__ = ["Sheet", "sheet"]
