"""What is refused before anything is sent, and how metadata travel in headers."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdfs.errors import UsageError
from pdfs.store.request import (
    check_description,
    check_key,
    decode_metadata_value,
    encode_metadata_value,
)


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_comes_back_from_a_header(value: str) -> None:
    assert decode_metadata_value(encode_metadata_value(value)) == value


@given(st.text(st.characters(codec="utf-8")))
def test_a_header_carries_printable_ascii_without_spaces(value: str) -> None:
    encoded = encode_metadata_value(value)
    assert encoded.isascii()
    assert encoded == "".join(encoded.split())
    assert encoded.isprintable()


@given(st.text(string.ascii_letters + string.digits + string.punctuation.replace("%", "")))
def test_ordinary_values_look_as_other_tools_write_them(value: str) -> None:
    assert encode_metadata_value(value) == value


@pytest.mark.parametrize("foreign", ["50% of it", "%ff%fe", "=?UTF-8?B?w7w=?=", "%"])
def test_what_another_tool_wrote_is_read_as_it_stands(foreign: str) -> None:
    assert decode_metadata_value(foreign) == foreign


@pytest.mark.parametrize("content_type", ["", "text", "text/plain\r\nX-Evil: 1", "text/ü", " a/b"])
def test_what_is_no_content_type_is_refused(content_type: str) -> None:
    with pytest.raises(UsageError):
        check_description(content_type, {})


def test_a_key_is_measured_in_bytes() -> None:
    check_key("é" * 512, 1024)
    with pytest.raises(UsageError, match="1026 bytes"):
        check_key("é" * 513, 1024)
