"""SQLAlchemy: keys by a server default in the model, and keys of an autoincrement model that idgen_adopt() took over."""

from sqlalchemy import BigInteger, ForeignKey, create_engine, event, func, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "sa_authors"
    id: Mapped[int] = mapped_column(BigInteger, server_default=func.idgen_next(), primary_key=True)
    name: Mapped[str]
    books: Mapped[list["Book"]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "sa_books"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("sa_authors.id"))
    author: Mapped[Author] = relationship(back_populates="books")


engine = create_engine("postgresql+psycopg://")
Base.metadata.create_all(engine)
with engine.begin() as connection:
    connection.execute(text("SELECT idgen_adopt('sa_books', 'id')"))

statements = []
event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))


def inserts():
    count = sum(statement.startswith("INSERT") for statement in statements)
    statements.clear()
    return count


def made_by_idgen(session, ids):
    return session.scalar(text("SELECT made_by_idgen(:ids)"), {"ids": list(ids)})


with Session(engine) as session:
    author = Author(name="Le Guin", books=[Book(title="The Dispossessed"), Book(title="The Telling")])
    session.add(author)
    session.commit()
    assert made_by_idgen(session, [author.id, *(book.id for book in author.books)])

with Session(engine) as session:  # read back by key and over the relation
    found = session.get(Author, author.id)
    assert found.name == "Le Guin"
    assert sorted(book.title for book in found.books) == ["The Dispossessed", "The Telling"]
    joined = select(Book.title).join(Book.author).where(Author.id == found.id).order_by(Book.id)
    assert session.scalars(joined).all() == ["The Dispossessed", "The Telling"]

    inserts()
    books = [Book(title=f"book {i}", author=found) for i in range(2000)]
    session.add_all(books)
    session.commit()
    assert inserts() <= 10, "adopted keys are not inserted in batches"
    ids = [book.id for book in books]
    assert made_by_idgen(session, ids)
    assert ids == sorted(ids), "ids do not follow the order of the objects"
    titles = select(Book.id, Book.title).where(Book.id.in_(ids))
    assert dict(session.execute(titles).all()) == {id: f"book {i}" for i, id in enumerate(ids)}

    inserts()
    names = [{"name": f"author {i}"} for i in range(2000)]
    authors = session.execute(insert(Author).returning(Author.id, Author.name), names).all()
    session.commit()
    assert inserts() <= 10, "insert() does not insert in batches"
    assert made_by_idgen(session, [row.id for row in authors])
    assert sorted(row.name for row in authors) == sorted(row["name"] for row in names)
