#!/usr/bin/env python3
"""tests/documents/site.py MDBOOK FOLDER: README and the pages that it leads to as a site in FOLDER, built by mdBook.

Their order is that of README's last section; below a page stand those of its folder. Every link within the site must lead to
a file, and to a heading of it.
"""

import html.parser
import json
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.parse

TOP = pathlib.Path(__file__).resolve().parents[2]
READ = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "docs", "examples"]


def title(page):
    return re.search(r"^# (.*)", page.read_text(), re.M)[1].replace("`", "")


def below(page):
    """The pages in the folder of a page: docs/performance/ of docs/performance.md, examples/ of examples/README.md."""
    folder = page.parent if page.name == "README.md" else page.with_suffix("")
    return sorted(other for other in folder.rglob("*.md") if other != page)


def summary(source):
    readme = source / "README.md"
    more = readme.read_text().split("\n## More\n")[1]
    lines = [f"[{title(readme)}](README.md)", ""]
    for name, path in re.findall(r"\[([^]]*)\]\(([^)]*\.md)\)", more):
        lines.append(f"- [{name}]({path})")
        lines += [f"    - [{title(page)}]({page.relative_to(source)})" for page in below(source / path)]
    return "\n".join(lines) + "\n"


class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.names, self.links = set(), []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.names.add(attributes.get("id"))
        self.links += [attributes[name] for name in ("href", "src") if attributes.get(name)]


def dead_links(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    count = 0
    for path, page in pages.items():
        for link in page.links:
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc:
                continue
            count += 1
            to = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
            if not to.is_file() or (url.fragment and to in pages and urllib.parse.unquote(url.fragment) not in pages[to].names):
                yield f"{path.relative_to(site)}: {link}"
    print(f"site: {len(pages)} pages, {count} links in it, {site / 'index.html'}")


def main():
    mdbook, folder = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    source = folder / "src"
    source.mkdir(parents=True)
    for name in READ:
        (shutil.copytree if (TOP / name).is_dir() else shutil.copy)(TOP / name, source / name)
    (source / "SUMMARY.md").write_text(summary(source))
    for page in source.rglob("*.md"):  # mdBook calls a README index, but not where it is linked to
        if page.name != "SUMMARY.md":
            page.write_text(re.sub(r"(\]\([^)#]*)README\.md", r"\1index.md", page.read_text()))
    book = {"title": "idgen", "description": json.loads((TOP / "META.json").read_text())["abstract"]}
    (folder / "book.toml").write_text("[book]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in book.items()) +
                                      '[output.html]\ninput-404 = ""\n[output.html.print]\nenable = false\n')
    subprocess.run([mdbook, "build", folder], check=True)
    dead = sorted(set(dead_links(folder / "book")))
    sys.exit("links that lead nowhere:\n" + "\n".join(dead) if dead else 0)


main()
