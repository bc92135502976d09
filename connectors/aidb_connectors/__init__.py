"""The connectors that travel with AIDB: images, video, text and tables, audio, from disks, object stores and the web.

Each is found by entry point (``aidb.connectors``) and sees of AIDB only `aidb.spi` and `aidb.errors`.
"""
