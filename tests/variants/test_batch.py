from fairlead.variants.batch import by_length


def test_batches_hold_every_text_once_within_the_budget() -> None:
    lengths = [3, 40, 8, 8, 8, 8, 1, 2, 16, 16]
    batches = list(by_length(lengths, 32))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= 32 for b in batches)
