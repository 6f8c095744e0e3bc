"""What tests of HTML reports need: a parser that checks the tags, and a name made to break out of any element."""

import html.parser
import re

HOSTILE = "<img src=x onerror=\"alert('1')\">'&amp;</title></style><script>alert(2)</script>"
VOID = ("br", "img", "input", "meta", "wbr")


class Reader(html.parser.HTMLParser):
    """Elements with their attributes, text by element, and a check that start and end tags match."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def require_one_file(text):
    """Asserts that a page loads nothing, runs nothing and forbids itself both; returns its reader."""
    read = Reader(text)
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in read.elements}
    for _, attributes in read.elements:
        assert not [name for name in attributes if name.startswith("on")]
        if "src" in attributes:
            assert attributes["src"].startswith(("data:image/jpeg;base64,", "data:image/png;base64,"))
        assert attributes.get("href", "#").startswith("#")
    assert not re.search(r"url\(|@import|https?:|//[a-z]", re.sub(r"base64,[^\"]*", "", text))
    policy = next(attributes for attributes in read.all("meta") if "http-equiv" in attributes)
    assert policy["http-equiv"] == "Content-Security-Policy" and "default-src 'none'" in policy["content"]
    return read
