"""Every form of user data gives the same pairs, and bad input one clear line."""

import csv
import json
import os
import threading
import time
from typing import NamedTuple

import pytest

from utils.config import DataConfig, UserError
from utils.corpus import Pair
from utils.readers import LeftOut, find_dataset

# A comma, quotation marks, a decomposed accent and Hangul as separate letters; U+2028 ends no line.
TEXTS = [
    ("Go.", "가."),
    ('He said, "no".', "그는 “아니”라고\u2028했다."),
    ("A cafe\u0301, please", "\u1112\u1161\u11ab"),
]
PAIRS = [TEXTS[0], TEXTS[1], ("A café, please", "한")]


class Split(NamedTuple):
    source: str
    pairs: list[Pair]
    left_out: LeftOut


def read(dataset, **options):
    """All splits of a dataset, read."""
    sources = find_dataset(DataConfig(dataset=str(dataset), **options))
    left_out = {split: {} for split in sources}
    return {
        split: Split(source.name, list(source.pairs(left_out[split])), left_out[split])
        for split, source in sources.items()
    }


def lines_of(split):
    return [pair.line for pair in split.pairs]


def pairs_of(split):
    return [(pair.src, pair.tgt) for pair in split.pairs]


def message(dataset, **options) -> str:
    with pytest.raises(UserError) as error:
        read(dataset, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def write(path, text):
    path.write_bytes(text.encode())
    return path


def write_tsv(path, texts=TEXTS):
    return write(path, "".join(f"{src}\t{tgt}\n" for src, tgt in texts))


def write_csv(path, texts=TEXTS, end="\n"):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator=end).writerows([("ko", "id", "en")])
        csv.writer(file, lineterminator=end).writerows((tgt, 7, src) for src, tgt in texts)
    return path


def write_jsonl(path, texts=TEXTS):
    rows = [{"id": 7, "en": src, "ko": tgt} for src, tgt in texts]
    return write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_jsonl_translation(path, texts=TEXTS):
    rows = [{"translation": {"ko": tgt, "en": src}} for src, tgt in texts]
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(path, texts=TEXTS):
    return write_table(
        path, {"ko": [t for _, t in texts], "id": [7] * 3, "en": [s for s, _ in texts]}
    )


def write_parquet_translation(path, texts=TEXTS):
    return write_table(path, {"translation": [{"en": src, "ko": tgt} for src, tgt in texts]})


def write_table(path, columns):
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def write_aligned(prefix, texts=TEXTS, languages=("en", "ko")):
    for language, lines in zip(languages, zip(*texts, strict=True), strict=True):
        write(prefix.with_name(f"{prefix.name}.{language}"), "".join(f"{line}\n" for line in lines))
    return prefix


FORMS = {
    "a.tsv": (write_tsv, [1, 2, 3]),
    "a.txt": (write_tsv, [1, 2, 3]),
    "a.unknown": (write_tsv, [1, 2, 3]),
    "a": (write_tsv, [1, 2, 3]),
    "a.csv": (write_csv, [2, 3, 4]),
    "a.jsonl": (write_jsonl, [1, 2, 3]),
    "b.json": (write_jsonl_translation, [1, 2, 3]),
    "a.parquet": (write_parquet, [1, 2, 3]),
    "b.PARQUET": (write_parquet_translation, [1, 2, 3]),
    "aligned": (write_aligned, [1, 2, 3]),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_pairs(tmp_path, name):
    writer, lines = FORMS[name]
    splits = read(writer(tmp_path / name))
    assert list(splits) == ["train"]
    assert pairs_of(splits["train"]) == PAIRS
    assert lines_of(splits["train"]) == lines
    assert splits["train"].left_out == {}
    expected = "aligned.en + aligned.ko" if name == "aligned" else name
    assert splits["train"].source == expected


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "b.json", "b.PARQUET", "aligned"])
def test_languages_say_which_side_is_the_source(tmp_path, name):
    dataset = FORMS[name][0](tmp_path / name)
    swapped = read(dataset, src_lang="ko", tgt_lang="en")["train"]
    assert pairs_of(swapped) == [(tgt, src) for src, tgt in PAIRS]


def test_columns_say_which_side_is_the_source(tmp_path):
    path = write(tmp_path / "a.tsv", "1\t가.\tGo.\tCC-BY 2.0 #1 (A) & #2 (B)\n")
    assert pairs_of(read(path, src_column=3, tgt_column=2)["train"]) == [("Go.", "가.")]


def test_byte_order_mark_and_windows_line_ends_leave_no_trace(tmp_path):
    plain = {name: FORMS[name][0](tmp_path / name) for name in ("a.tsv", "a.csv", "a.jsonl")}
    for path in plain.values():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
        assert pairs_of(read(path)["train"]) == PAIRS


def test_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_tsv(tmp_path / "a.tsv")
    assert pairs_of(read("~/a.tsv")["train"]) == PAIRS


# What is left out

MISSING, EMPTY, BLANK = "a side is missing", "a side is empty", "the line is blank"


def test_unusable_lines_are_counted_with_their_numbers(tmp_path):
    text = "Go.\t가.\nalone\n\n  \t \u3000\t\nHi.\t \t\nbye\nRun!\t 뛰어! \tx\n"
    split = read(write(tmp_path / "a.tsv", text))["train"]
    assert pairs_of(split) == [("Go.", "가."), ("Run!", "뛰어!")]
    assert lines_of(split) == [1, 7]
    assert split.left_out == {MISSING: [2, 6], BLANK: [3, 4], EMPTY: [5]}


def test_unusable_lines_of_csv_are_counted_where_they_start(tmp_path):
    text = 'en,ko\n"two\nlines",두 줄\nalone\n\nHi.,\nGo.,가.\n'
    split = read(write(tmp_path / "a.csv", text))["train"]
    assert pairs_of(split) == [("two\nlines", "두 줄"), ("Go.", "가.")]
    assert lines_of(split) == [2, 7]
    assert split.left_out == {MISSING: [4], BLANK: [5], EMPTY: [6]}


def test_unusable_records_are_counted(tmp_path):
    rows = ['{"en": "Go."}', '{"en": "Go.", "ko": null}', "", '{"en": "", "ko": "가."}',
            '{"en": 5, "ko": "가."}', '{"en": "Go.", "ko": "가."}']  # fmt: skip
    split = read(write(tmp_path / "a.jsonl", "\n".join(rows)))["train"]
    assert lines_of(split) == [6]
    expected = {MISSING: [1, 2], BLANK: [3], EMPTY: [4], "a side is not text": [5]}
    assert split.left_out == expected

    table = {"translation": [{"en": "Go.", "ko": None}, None, {"en": "Go.", "ko": "가."}]}
    split = read(write_table(tmp_path / "a.parquet", table))["train"]
    assert lines_of(split) == [3]
    assert split.left_out == {MISSING: [1, 2]}


def test_blank_lines_of_aligned_files_keep_the_rest_aligned(tmp_path):
    split = read(write_aligned(tmp_path / "a", [("Go.", "가."), ("", ""), ("Hi.", ""), *TEXTS]))
    assert lines_of(split["train"]) == [1, 4, 5, 6]
    assert split["train"].left_out == {BLANK: [2], EMPTY: [3]}


# Before anything is read


@pytest.mark.parametrize("name", FORMS)
def test_the_most_pairs_are_known_before_they_are_read(tmp_path, monkeypatch, name):
    dataset = FORMS[name][0](tmp_path / name)
    monkeypatch.setattr("utils.formats.BYTES_PER_READ", 7)
    source = find_dataset(DataConfig(dataset=str(dataset)))["train"]
    header = name.endswith(".csv")
    last_line = not name.lower().endswith(".parquet")  # which may have no end
    # A U+2028 ends no line.
    assert source.most_pairs() == len(PAIRS) + header + last_line


def test_a_pipe_is_read_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=write_tsv, args=(pipe,))
    writer.start()
    source = find_dataset(DataConfig(dataset=str(pipe)))["train"]
    assert source.most_pairs() == 0
    assert [pair[:2] for pair in source.pairs({})] == PAIRS
    writer.join()


def identity(dataset):
    sources = find_dataset(DataConfig(dataset=str(dataset)))
    return {split: source.identity for split, source in sources.items()}


def test_what_a_file_is_known_by_changes_with_it(tmp_path, monkeypatch):
    first, second = write_aligned(tmp_path / "a"), write_aligned(tmp_path / "b")
    before = identity(first)
    assert identity(first) == before != identity(second)
    monkeypatch.chdir(tmp_path)
    assert identity("a") == before  # also from elsewhere
    stat = (tmp_path / "a.ko").stat()
    os.utime(tmp_path / "a.ko", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    touched = identity(first)
    write(tmp_path / "a.ko", "1\n2\n3\n4\n")
    os.utime(tmp_path / "a.ko", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert len({json.dumps(each) for each in (before, touched, identity(first))}) == 3


def test_a_full_disk_elsewhere_is_no_unreadable_file(tmp_path):
    pairs = find_dataset(DataConfig(dataset=str(write_tsv(tmp_path / "a.tsv"))))["train"].pairs({})
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012
        for _ in pairs:
            raise OSError(28, "No space left on device")


# Folders


def test_folder_gives_its_splits_whatever_their_forms(tmp_path):
    write_aligned(tmp_path / "train", [*TEXTS, ("train", "훈련")])
    write_jsonl(tmp_path / "validation.jsonl", [("valid", "검증")])
    write_csv(tmp_path / "test_2016.csv", [("2016", "시험")])
    write_csv(tmp_path / "test_2017.csv", [("2017", "시험")])
    write(tmp_path / "README.md", "not data")
    splits = read(tmp_path)
    assert {name: split.source for name, split in splits.items()} == {
        "train": "train.en + train.ko",
        "eval": "validation.jsonl",
        "test": "test_2016.csv",
    }
    assert len(splits["train"].pairs) == 4
    assert pairs_of(splits["eval"]) == [("valid", "검증")]
    assert pairs_of(splits["test"]) == [("2016", "시험")]


@pytest.mark.parametrize("name", ["val", "valid", "dev", "validation", "dev2010"])
def test_validation_split_goes_by_many_names(tmp_path, name):
    write_tsv(tmp_path / "train.txt")
    write_aligned(tmp_path / name)
    splits = read(tmp_path)
    assert list(splits) == ["train", "eval"]
    assert splits["eval"].source == f"{name}.en + {name}.ko"


def test_folder_without_training_split_is_refused(tmp_path):
    write_tsv(tmp_path / "test.tsv")
    write_tsv(tmp_path / "trainer.tsv")
    write_aligned(tmp_path / "train", languages=("en", "de"))
    text = message(tmp_path)
    for part in (str(tmp_path), "train.tsv", "train.en with train.ko", "train.de", "test.tsv"):
        assert part in text


# Bad files


@pytest.mark.parametrize("text", ["", "\n \r\n\n", "\ufeff"])
@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl"])
def test_empty_file_is_refused(tmp_path, name, text):
    assert f"{name} is empty" in message(write(tmp_path / name, text))


def test_empty_file_of_two_or_of_parquet_is_refused(tmp_path):
    write(tmp_path / "a.en", ""), write(tmp_path / "a.ko", "")
    assert "a.en + a.ko is empty" in message(tmp_path / "a")
    assert "0 bytes" in message(write(tmp_path / "a.parquet", ""))


def test_file_without_any_complete_pair_is_refused(tmp_path):
    text = message(write(tmp_path / "a.tsv", "Go.\t\n\t가.\n"))
    assert "no complete sentence pair (a side is empty" in text
    text = message(write(tmp_path / "a.csv", "en,ko\nGo.\n"))
    assert "no complete sentence pair (a side is missing" in text


def test_too_few_columns_are_refused(tmp_path):
    assert "only one column" in message(write(tmp_path / "a.txt", "Go.\n\nHi.\n"))
    text = message(write_tsv(tmp_path / "a.tsv"), tgt_column=4)
    assert "2 columns at most" in text
    assert "--tgt_column 4" in text


def test_unequal_line_counts_are_refused(tmp_path):
    write(tmp_path / "a.en", "1\n2\n3\n")
    write(tmp_path / "a.ko", "1\n2")
    text = message(tmp_path / "a")
    assert f"{tmp_path / 'a.en'} has 3 lines" in text
    assert f"{tmp_path / 'a.ko'} has 2" in text


@pytest.mark.parametrize(("there", "missing"), [("a.en", "a.ko"), ("a.ko", "a.en")])
def test_missing_half_is_named(tmp_path, there, missing):
    write(tmp_path / there, "1\n")
    assert f"there is no {tmp_path / missing}" in message(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("a.csv", "ko, id, en"),
        ("a.jsonl", "id, en, ko"),
        ("b.json", "ko, en"),
        ("a.parquet", "ko, id, en"),
        ("b.PARQUET", "en, ko"),
    ],
)
def test_unknown_language_lists_those_there_are(tmp_path, name, columns):
    text = message(FORMS[name][0](tmp_path / name), tgt_lang="de")
    assert f"no column 'de'; it has {columns}:" in text


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"en": "Go."', "not valid JSON"),
        ('{"en": "Go.", "ko": "\\ud83d"}', "not valid JSON"),  # half an emoji
        ("[" * 100_000, "not valid JSON"),
        ('["Go.", "가."]', "no JSON object"),
    ],
)
def test_bad_json_line_is_named(tmp_path, line, problem):
    path = write(tmp_path / "a.jsonl", '{"en": "\\ud83d\\ude00", "ko": "x"}\n\n' + line + "\n")
    assert f"{path}, line 3: {problem}" in message(path)


@pytest.mark.parametrize("line", ['"never closed,가.', '"Go." he said,가.', "x" * 200_000])
def test_bad_csv_line_is_named(tmp_path, line):
    path = write(tmp_path / "a.csv", f'en,ko\n"two\nlines",둘\n{line}\nGo.,가.\n')
    assert f"{path}, line 4: not valid CSV" in message(path)


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl"])
def test_text_in_another_encoding_is_located(tmp_path, name):
    path = tmp_path / name
    first_line = b'{"k":"x"}\n"' if name == "a.jsonl" else b'"ko","en"\n"'
    path.write_bytes(first_line + "가".encode("cp949"))
    text = message(path)
    assert f"{path}, line 2: not UTF-8 text (byte 0xb0 at offset 11); save the file" in text


@pytest.mark.parametrize("content", [b"PK\x03\x04\x14\0\0\0\t", "Go.\t가.".encode("utf-16")])
def test_binary_file_is_refused(tmp_path, content):
    path = tmp_path / "a.tsv"
    path.write_bytes(content)
    assert f"{path}, line 1: a NUL byte" in message(path)


def test_what_is_no_parquet_is_refused(tmp_path):
    path = write(tmp_path / "a.parquet", "Go.\t가.\n" * 9)
    assert f"{path}: not a readable Parquet file" in message(path)


def test_unreadable_file_or_folder_is_refused(tmp_path, monkeypatch):
    path = write_tsv(tmp_path / "a.tsv")

    def refuse(self, *_):  # the tests may run as root, who may read everything
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.open", refuse)
    assert f"cannot read {path} (Permission denied)" in message(path)
    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    assert f"cannot read {tmp_path} (Permission denied)" in message(tmp_path)
    assert "too long" in message("x" * 5000)


# The hub, for which a local folder stands in


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A function that lets a folder answer for every name, and returns the loads it saw."""
    import datasets

    def answer(folder):
        loads, load, names = [], datasets.load_dataset, datasets.get_dataset_config_names

        def local_load(name, config):
            loads.append((name, config))
            return load(str(folder), config, cache_dir=str(tmp_path / "cache"))

        monkeypatch.setattr(datasets, "load_dataset", local_load)
        monkeypatch.setattr(datasets, "get_dataset_config_names", lambda name: names(str(folder)))
        return loads

    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("utils.hub.hub_answers", lambda: True)
    yield answer
    datasets.enable_progress_bars()


def with_configurations(folder, *names):
    folder.mkdir()
    files = {
        name: [{"split": s, "path": f"{name}/{s}.jsonl"} for s in ("train", "test")]
        for name in names
    }
    configs = [{"config_name": name, "data_files": listed} for name, listed in files.items()]
    write(folder / "README.md", f"---\nconfigs: {json.dumps(configs)}\n---\n")
    for name in names:
        src, tgt = name.replace("_", "-").split("-")[-2:]
        (folder / name).mkdir()
        for split in ("train", "test"):
            rows = [{src: f"{src} {i} {split}", tgt: f"{tgt} {i}"} for i in range(2)]
            text = "".join(json.dumps({"translation": row}) + "\n" for row in rows)
            write(folder / name / f"{split}.jsonl", text)
    return folder


def test_hub_dataset_with_plain_columns(tmp_path, hub):
    folder = tmp_path / "hub"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", [*TEXTS, ("", "x"), (None, "x")])
    write_jsonl(folder / "validation.jsonl")
    loads = hub(folder)
    splits = read("owner/name")
    assert loads == [("owner/name", None)]
    assert list(splits) == ["train", "eval"]
    assert pairs_of(splits["train"]) == pairs_of(splits["eval"]) == PAIRS
    assert lines_of(splits["train"]) == [1, 2, 3]
    assert splits["train"].left_out == {EMPTY: [4], MISSING: [5]}
    assert splits["eval"].source == "owner/name (validation)"
    sources = find_dataset(DataConfig(dataset="owner/name"))
    assert sources["train"].most_pairs() == 5
    (known_by,) = sources["train"].identity
    assert known_by[0].endswith(".arrow")
    assert known_by != sources["eval"].identity[0]
    assert "has no column 'de'; it has id, en, ko" in message("owner/name", tgt_lang="de")


@pytest.mark.parametrize(("src", "tgt", "config"), [
    ("de", "en", "x-de-en"), ("en", "de", "x-de-en"), ("fr", "en", "en_fr"),
])  # fmt: skip
def test_hub_configuration_is_that_of_the_language_pair(tmp_path, hub, src, tgt, config):
    folder = with_configurations(tmp_path / "hub", "cs-en", "x-de-en", "en_fr")
    loads = hub(folder)
    splits = read("opus-100", src_lang=src, tgt_lang=tgt)
    assert loads == [("opus-100", config)]
    assert [list(splits), len(splits["train"].pairs)] == [["train", "test"], 2]
    pair = splits["train"].pairs[1]
    assert pair.src.startswith(f"{src} 1")
    assert pair.tgt.startswith(f"{tgt} 1")


def test_hub_without_the_language_pair_lists_what_it_has(tmp_path, hub):
    hub(with_configurations(tmp_path / "hub", "cs-en", "de-en"))
    assert "no configuration for en-ko; it has cs-en, de-en" in message("wmt14")


def test_hub_without_training_split_is_refused(tmp_path, hub):
    folder = tmp_path / "hub"
    folder.mkdir()
    write_jsonl(folder / "test.jsonl")
    hub(folder)
    assert "owner/name has no training split; it has test" in message("owner/name")


def test_cached_configurations_are_found_offline(tmp_path, monkeypatch):
    import datasets
    from datasets.packaged_modules.json.json import Json

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = with_configurations(tmp_path / "hub", "cs-en", "de-en")
    for config in ("cs-en", "de-en"):
        files = {"train": str(folder / config / "train.jsonl")}
        Json(
            cache_dir=str(tmp_path / "cache"), dataset_name="name",
            config_name=config, hash="0", data_files=files,
        ).download_and_prepare()  # fmt: skip
    # A builder of files puts a hash into the name; one of the hub does not.
    for cached in (tmp_path / "cache" / "name").iterdir():
        cached.rename(cached.with_name(cached.name[:5]))
    (tmp_path / "cache" / "name").rename(tmp_path / "cache" / "owner___name")
    splits = read("owner/name", src_lang="en", tgt_lang="de")
    assert pairs_of(splits["train"])[0] == ("en 0", "de 0 train")


def test_offline_or_unknown_name_is_refused_at_once(monkeypatch):
    import datasets

    for text in (message("owner/no_such_name"), message("wmt1066")):
        for part in ("neither a file", "spelling", "online", "path"):
            assert part in text
    # Online, as far as the settings say, but nothing answers.
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for module in ("datasets.config.HF_ENDPOINT", "huggingface_hub.constants.ENDPOINT"):
        monkeypatch.setattr(module, "http://127.0.0.1:9")
    start = time.perf_counter()
    assert "neither a file" in message("owner/no_such_name")
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "dataset",
    ["no_such.tsv", "./no_such", "no/such/file", "a\\b", "~/no_such", "/no_such", "..x", "csv"],
)
def test_missing_path_is_refused_without_asking_the_hub(dataset, monkeypatch):
    monkeypatch.setattr("utils.readers._find_on_hub", lambda config: pytest.fail("asked the hub"))
    text = message(dataset)
    assert "no such file or folder" in text
    assert dataset.rpartition("/")[2] in text


def test_importing_loads_nothing_heavy():
    import subprocess
    import sys

    code = "import sys, utils.readers; print({'pandas', 'pyarrow', 'datasets'} & set(sys.modules))"
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed.strip() == "set()"
