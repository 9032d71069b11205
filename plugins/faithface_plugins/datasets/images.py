"""Image files for the folder-like datasets: the core's reader, under the name that they use.

Place in the flow: imported by ``folder``, ``pairs`` and other datasets of files; everything is in ``faithface.images``.
"""

from faithface.images import SUFFIXES, list_images, read_image, safe_id

__all__ = ["SUFFIXES", "list_images", "read_image", "safe_id"]
