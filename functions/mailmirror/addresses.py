"""The value of an address header to the people it names.

Knows: address lists as RFC 5322 and as mail has them: no brackets, quotes that never end, a comma in a name. Does not
know: which header it is. Promises: one pass over any value; encoded words are decoded once the list is taken apart, so
that an encoded comma splits no name.
"""

import re
from collections.abc import Iterator

from mailmirror.charset import WORD, clean, decode_words, unfold
from mailmirror.model import Address

_TEXT = re.compile(r'[^"(<,;:\[\\=]++|=')
_QUOTED = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_IN_COMMENT = re.compile(r"\\.|[()]", re.DOTALL)
# Some programs put brackets around brackets.
_BRACKETS = re.compile(r"<++([^<>]*+)>++")
# Brackets that never close, or around several addresses, end where the next begins.
_BRACKET = re.compile(r"<++([^<>,;]*+)")
_SEVERAL = re.compile(r'\s*+[^"@,;\s][^"@,;]*+@?[^"@,;]*+[,;]')
_LITERAL = re.compile(r"\[[^\[\]<>,;\s]*+\]")
_DOMAIN = re.compile(r'@[^\s,;<>()"]++')
_MAILTO = re.compile(r"\Amailto:", re.IGNORECASE)
# So many pieces without an address may begin the name after a comma.
_NAME_PIECES = 3


def read_addresses(value: str) -> Iterator[Address]:
    """Yield the people a header names, members of groups too; what is no address as well as it can be read."""
    return (person for person in _people(value) if person.name or person.address)


def _people(value: str) -> Iterator[Address]:
    # "Doe, John <john@example.com>" is one: Gmail shows an encoded word without quotes.
    names: list[str] = []
    for mailbox in _List(unfold(clean(value))).mailboxes():
        if mailbox.bare:
            names.append(mailbox.name)
            if len(names) <= _NAME_PIECES:
                continue
        elif names and mailbox.name and mailbox.brackets is not None and not mailbox.quoted:
            mailbox.name = ", ".join([*names, mailbox.name])
            names.clear()
        yield from (_person("", name) for name in names)
        names.clear()
        if not mailbox.bare:
            yield from mailbox.people()
    yield from (_person("", name) for name in names)


class _Mailbox:
    """An element of a list; its `texts` stand outside brackets."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.name = ""
        self.comment = ""
        self.brackets: str | None = None
        self.quoted = False
        self.bare = False
        self.addressed = False

    def add(self, text: str) -> None:
        self.texts.append(text)
        self.addressed = self.addressed or "@" in text

    def close(self, separator: str) -> bool:
        self.name = " ".join("".join(self.texts).split())
        named_alone = self.name != "" and self.brackets is None and not self.addressed
        self.bare = named_alone and separator == "," and not self.quoted
        return bool(self.name or self.brackets)

    def people(self) -> Iterator[Address]:
        """One, or several that nothing separates."""
        if self.brackets is not None:
            yield _person(self.name or self.comment, self.brackets)
            return
        words = self.name.replace(" @", "@").replace("@ ", "@").split(" ")
        addresses = [word for word in words if "@" in word]
        if len(addresses) > 1:
            yield from (_person("", _address(word)) for word in addresses)
        elif addresses:
            names = (word for word in words if "@" not in word)
            yield _person(" ".join(names) or self.comment, _address(addresses[0]))
        elif len(words) == 1 and not self.quoted:
            yield _person(self.comment, words[0])
        else:
            yield _person(self.name, "")


class _List:
    def __init__(self, value: str) -> None:
        self.value = value
        self.at = 0
        # A comment that never closes is looked for once: the rest is text.
        self.comments = True
        self.last_semicolon = value.rfind(";")
        self.mailbox = _Mailbox()

    def mailboxes(self) -> Iterator[_Mailbox]:
        while self.at < len(self.value):
            sign = self.value[self.at]
            if sign in ",;":
                self.at += 1
                yield from self._close(sign)
            elif sign == "<":
                if self.mailbox.brackets is not None:
                    yield from self._close(",")
                self._read_brackets()
            elif sign == ":" and self._ends_group_name():
                self.at += 1
                self.mailbox = _Mailbox()
            elif not (
                (sign == '"' and self._read_quoted())
                or (sign == "(" and self._read_comment())
                or (sign == "=" and self._read_as_text(WORD))
                or (sign == "[" and self._read_as_text(_LITERAL))
                or (sign == "\\" and self._read_escaped())
                or self._read_as_text(_TEXT)
            ):
                self.mailbox.add(sign)
                self.at += 1
        yield from self._close(";")

    def _ends_group_name(self) -> bool:
        """Members follow a group's name, and a semicolon."""
        members = self.at < self.last_semicolon or self.at == len(self.value) - 1
        return members and self.mailbox.brackets is None and not self.mailbox.addressed

    def _close(self, separator: str) -> Iterator[_Mailbox]:
        mailbox, self.mailbox = self.mailbox, _Mailbox()
        if mailbox.close(separator):
            yield mailbox

    def _read_as_text(self, pattern: re.Pattern[str]) -> bool:
        found = pattern.match(self.value, self.at)
        if found is None:
            return False
        self.mailbox.add(found[0])
        self.at = found.end()
        return True

    def _read_escaped(self) -> bool:
        self.mailbox.add(self.value[self.at + 1 : self.at + 2])
        self.at += 2
        return True

    def _read_brackets(self) -> None:
        found = _BRACKETS.match(self.value, self.at)
        if found is None or _SEVERAL.match(found[1]):
            found = _BRACKET.match(self.value, self.at)
        if found is not None:
            self.mailbox.brackets = _address(found[1])
            self.at = found.end()

    def _read_quoted(self) -> bool:
        before = self.mailbox.texts[-1] if self.mailbox.texts else ""
        # A quote within a word quotes nothing.
        if not (before == "" or before[-1].isspace()):
            return False
        found = _QUOTED.match(self.value, self.at)
        if found is None:
            return False
        self.at = found.end()
        domain = _DOMAIN.match(self.value, self.at)
        if domain is not None and self.mailbox.brackets is None:
            self.mailbox.brackets = _address(found[0] + domain[0])
            self.at = domain.end()
        else:
            self.mailbox.add(_ESCAPED.sub(r"\1", found[1]))
            self.mailbox.quoted = True
        return True

    def _read_comment(self) -> bool:
        if not self.comments:
            return False
        depth = 0
        for found in _IN_COMMENT.finditer(self.value, self.at):
            depth += {"(": 1, ")": -1}.get(found[0], 0)
            if depth == 0:
                self.mailbox.comment = _ESCAPED.sub(r"\1", self.value[self.at + 1 : found.start()])
                self.mailbox.add(" ")
                self.at = found.end()
                return True
        self.comments = False
        return False


def _address(text: str) -> str:
    """Without a route (`@a,@b:user@example.com`) and a link's scheme."""
    text = _MAILTO.sub("", text.strip(), count=1)
    return text.partition(":")[2] if text.startswith("@") and ":" in text else text


def _person(name: str, address: str) -> Address:
    shown = " ".join(decode_words(name).split())
    # Spaces stand in no address but in quotes.
    where = decode_words(address) if address.startswith('"') else "".join(decode_words(address).split())
    return Address(shown, where.strip("<>").lower())
