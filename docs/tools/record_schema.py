"""Write the JSON schema of records: ``python -m docs.tools.record_schema``.

Place in the flow: run by hand when the record changes; a test compares the file with what this returns.
"""

from __future__ import annotations

import json
from pathlib import Path

from faithface.boards.record import RECORD_SCHEMA, Record

FILE = Path(__file__).resolve().parents[1] / "reference" / "record.schema.json"


def record_schema() -> str:
    """Return the schema as the file holds it."""
    made = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"faithface record, schema {RECORD_SCHEMA}",
        **{key: value for key, value in Record.model_json_schema(mode="serialization").items() if key != "title"},
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(record_schema(), "utf-8")
