"""Programs that write documentation: ``python -m docs.tools.protocol_pages docs/protocols``.

Place in the flow: outside the wheel; may call all of faithface.
"""
