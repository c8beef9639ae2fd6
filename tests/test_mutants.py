"""Every mutant of `make mutants` still fits the code, and its tests exist."""

from mutants import ROOT, listed


def test_each_mutant_changes_one_place_and_names_its_tests():
    mutants = listed()
    assert len(mutants) >= 60
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    for mutant in mutants:
        assert (ROOT / mutant.file).read_text().count(mutant.old) == 1, mutant.name
        assert mutant.old != mutant.new
        files = [word for word in mutant.test.split() if word.endswith(".py")]
        assert files
        assert all((ROOT / file).is_file() for file in files), mutant.name
