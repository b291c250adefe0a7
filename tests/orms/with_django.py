"""Django: keys by db_default in the model, and keys of a BigAutoField that idgen_adopt() took over."""

import io
import os

import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"]}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.db.migrations.autodetector import MigrationAutodetector  # noqa: E402
from django.db.migrations.state import ModelState, ProjectState  # noqa: E402
from django.db.migrations.writer import MigrationWriter  # noqa: E402
from django.db.models import Func  # noqa: E402


class Author(models.Model):
    name = models.TextField()

    class Meta:
        app_label = "orms"
        db_table = "dj_authors"


class Book(models.Model):
    id = models.BigIntegerField(primary_key=True, db_default=Func(function="idgen_next"))
    title = models.TextField()
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")

    class Meta:
        app_label = "orms"
        db_table = "dj_books"


def made_by_idgen(ids):
    with connection.cursor() as cursor:
        cursor.execute("SELECT made_by_idgen(%s)", [list(ids)])
        return cursor.fetchone()[0]


with connection.schema_editor() as editor:
    editor.create_model(Author)
    editor.create_model(Book)
with connection.cursor() as cursor:  # in a project, migrations.RunSQL
    cursor.execute("SELECT idgen_adopt('dj_authors', 'id')")

author = Author.objects.create(name="Le Guin")
book = Book.objects.create(title="The Dispossessed", author=author)
other = Book(title="The Telling", author=author)
other.save()
assert made_by_idgen([author.pk, book.pk, other.pk])

found = Author.objects.get(pk=author.pk)
assert found.name == "Le Guin"
assert [b.title for b in found.books.order_by("pk")] == ["The Dispossessed", "The Telling"]
assert Book.objects.select_related("author").get(author__name="Le Guin", pk=book.pk).author == author

authors = Author.objects.bulk_create([Author(name=f"author {i}") for i in range(2000)], batch_size=500)
ids = [author.pk for author in authors]
assert made_by_idgen(ids)
assert ids == sorted(ids), "ids do not follow the order of the objects"
stored = Author.objects.in_bulk(ids)
assert all(stored[author.pk].name == author.name for author in authors)

# Keys by db_default are not brought back to the objects of bulk_create().
Book.objects.bulk_create([Book(title=f"book {i}", author=author) for i, author in enumerate(authors)])
assert made_by_idgen(Book.objects.values_list("pk", flat=True))
assert [author.books.get().title for author in authors[:10]] == [f"book {i}" for i in range(10)]

# inspectdb finds the tables, and nothing of idgen; its models are Python.
found = io.StringIO()
call_command("inspectdb", stdout=found)
assert "class DjAuthors" in found.getvalue() and "idgen" not in found.getvalue().lower(), found.getvalue()
compile(found.getvalue(), "models.py", "exec")


def changes_since(before):
    now = ProjectState()
    for model in [Author, Book]:
        now.add_model(ModelState.from_model(model))
    return MigrationAutodetector(before, now)._detect_changes()


# makemigrations writes the default down, and has nothing to add to what it wrote.
written = {}
migration = changes_since(ProjectState())["orms"][0]
exec(MigrationWriter(migration).as_string(), written)
migrated = written["Migration"]("0001_initial", "orms").mutate_state(ProjectState())
assert changes_since(migrated) == {}
