"""Damaged rows of tables are named by their lines."""

from exported import BOX, HEADING, converted, images


def test_a_comma_in_a_name_without_quotes(tmp_path):
    """The row is left out, the others of its image are read, and its line and fields are said."""
    rows = 'a.png,cat,10,20,30,40\na.png,"one\nname, quoted",1,2,3,4,\n\na.png,short, wide,1,2,3,4\na.png,cat,1,x,3,4\n'
    found, losses = converted(tmp_path, {**images("a.png"), "a.csv": HEADING + rows})
    assert [row[0] for row in found["all"]["a.png"]] == ["cat", "one\nname, quoted"]
    assert found["all"]["a.png"][0] == BOX
    wide = "rows with more fields than the first line left out (a name with a comma in it needs quotes)"
    unread = "objects without a readable box or class left out"
    assert losses == {wide: 1, unread: 1}
    path = tmp_path / "source" / "a.csv"
    said = (tmp_path / "out" / "left_out.txt").read_text().splitlines()
    assert said == [f"{wide}: {path}, line 6: 7 fields, expected 6", f"{unread}: {path}, line 7"]


def test_a_table_without_a_heading(tmp_path):
    table = "a.png,10,20,30,40,cat\na.png,1,2,3,4,short, wide\n"
    found, _ = converted(tmp_path, {**images("a.png"), "a.csv": table})
    assert found == {"all": {"a.png": [BOX]}}
    assert "line 2: 7 fields, expected 6" in (tmp_path / "out" / "left_out.txt").read_text()


def test_small_numbers_are_shares_of_the_sides(tmp_path):
    table = f"{HEADING}a.png,cat,0.1,0.25,0.3,0.5\nb.png,cat,0,0,1,1.001\n"
    found, losses = converted(tmp_path / "shares", {**images("a.png", "b.png"), "a.csv": table})
    assert found == {"all": {"a.png": [BOX], "b.png": [("cat", 0, 0, 100, 80.08)]}}
    assert losses == {"tables whose numbers are read as shares of the image's sides, since none is above 2": 1}
    table = f"{HEADING}a.png,cat,0.5,0.25,1,2\nb.png,cat,0,0,1,3\n"
    found, losses = converted(tmp_path / "pixels", {**images("a.png", "b.png"), "a.csv": table})
    assert found["all"]["a.png"] == [("cat", 0.5, 0.25, 0.5, 1.75)] and not losses
