"""The soak of faults in its short form, and that it notices what is not in the record."""

import json

from soaks.faults import _wrong, faults


def test_all_faults_are_in_the_record_and_no_other(tmp_path):
    tally = faults(40, 1, tmp_path, share=0.4)
    assert (tally.tried, tally.faults) == (40, [])
    journal = tmp_path / "savi_ift.json"
    entries = json.loads(journal.read_text())
    assert len({entry["kind"] for entry in entries}) >= 3
    # What the record does not have, or has besides.
    run, bad = tmp_path / "savi_ift", [e for e in entries if e["kind"] != "solve"]
    journal.write_text(json.dumps(entries[1:] if entries[0] in bad else entries + bad[:1]))
    told = list(_wrong(run, journal))
    assert any("bad steps are recorded of" in fault for fault in told)
    assert any("are in one of record and journal only" in fault for fault in told)
    spoiled = {**entries[0], "kind": "solve", "sound": False, "diverged": True}
    journal.write_text(json.dumps([*entries, spoiled]))
    assert any("ended above their start, or nowhere" in fault for fault in _wrong(run, journal))
