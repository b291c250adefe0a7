"""Alembic's autogenerate finds nothing to change in a database with idgen: no object of it, and no default."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import BigInteger, create_engine, func, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "alembic_authors"
    id: Mapped[int] = mapped_column(BigInteger, server_default=func.idgen_next(), primary_key=True)
    name: Mapped[str]


class Page(Base):
    __tablename__ = "alembic_pages"
    id: Mapped[int] = mapped_column(BigInteger, server_default=text("idgen_next('alembic_page_id'::regclass)"), primary_key=True)
    name: Mapped[str]


class Book(Base):
    __tablename__ = "alembic_books"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    title: Mapped[str]


engine = create_engine("postgresql+psycopg://")
with engine.begin() as connection:
    connection.execute(text("SELECT idgen_create_generator('alembic_page_id', 'js_safe')"))
    connection.execute(text("SELECT idgen_create_generator('alembic_invoice_id', 'counter')"))
Base.metadata.create_all(engine)
with engine.begin() as connection:
    connection.execute(text("SELECT idgen_adopt('alembic_books', 'id')"))
    connection.execute(text("ALTER SEQUENCE alembic_page_id OWNED BY alembic_pages.id"))


def is_ours(name, kind, parents):
    """Tables of the other mappers are not; one of idgen would be: it has none."""
    return kind != "table" or not name.startswith(("sa_", "dj_"))


with engine.connect() as connection:
    options = {"compare_type": True, "compare_server_default": True, "include_name": is_ours}
    found = compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)
assert found == [], found
