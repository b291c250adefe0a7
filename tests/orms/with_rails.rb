# Rails' ActiveRecord: keys by a default and keys adopted, made by migrations, and schema.rb, which takes all of it to another
# database. Makes databases of its own.
gem "activerecord"
gem "pg"
require "active_record"
require "active_record/fixtures"
require "tmpdir"

Base = ActiveRecord::Base
Tasks = ActiveRecord::Tasks::DatabaseTasks # what bin/rails db:create, db:schema:dump and db:schema:load call
ENV["VERBOSE"] = "false"
ActiveRecord::Migration.verbose = false
Tasks.env = "test"
Tasks.db_dir = Dir.mktmpdir
at_exit { FileUtils.rm_rf(Tasks.db_dir) }
SCHEMA = ENV["SCHEMA"] = "#{Tasks.db_dir}/schema.rb" # where each version of Rails dumps to
Base.configurations = { "test" => %w[primary copy].to_h { |name| [name, { adapter: "postgresql", database: "rails_#{name}" }] } }
PRIMARY, COPY = %w[primary copy].map { |name| Base.configurations.configs_for(env_name: "test", name: name) }

def assert(condition, message = "asserted in vain")
  raise message unless condition
end

def assert_raises(message)
  yield
rescue => error
  assert error.message.match?(message), error.message
else
  raise "no error like #{message.source}"
end

def assert_made_by_idgen(ids)
  assert ids == Base.connection.select_values("SELECT DISTINCT id FROM unnest('{#{ids.join(",")}}'::bigint[]) id, idgen_decode(id)
    WHERE machine = 1 AND at BETWEEN now() - interval '1 hour' AND now() + interval '1 hour' ORDER BY id"), "not ids in their order: #{ids}"
end

def schema_of(database)
  Base.establish_connection(database)
  FileUtils.rm_f(SCHEMA)
  Tasks.dump_schema(database)
  File.read(SCHEMA)
end

def load_schema(database)
  Base.establish_connection(database)
  Tasks.load_schema(database, :ruby, SCHEMA)
end

class CreateLibrary < ActiveRecord::Migration[6.1]
  def change
    enable_extension "idgen"
    create_table(:authors) { |t| t.text :name }
    reversible do |direction|
      direction.up { execute "SELECT idgen_adopt('authors', 'id')" }
      direction.down { execute "SELECT idgen_abandon('authors', 'id')" }
    end
    create_table :books, id: :bigint, default: -> { "idgen_next()" } do |t|
      t.text :title
      t.belongs_to :author, foreign_key: true
    end
    create_table :notes, id: false do |t|
      t.bigint :id, primary_key: true, default: -> { "idgen_next()" }
      t.belongs_to :subject, polymorphic: true
    end
  end
end

class Author < Base
  has_many :books
  has_many :notes, as: :subject
end

class Book < Base
  belongs_to :author
  has_many :notes, as: :subject
end

class Note < Base
  belongs_to :subject, polymorphic: true
end

Tasks.create(PRIMARY)
CreateLibrary.migrate(:up)
CreateLibrary.migrate(:down)
CreateLibrary.migrate(:up)

author = Author.create!(name: "Le Guin")
book = author.books.create!(title: "The Dispossessed")
notes = [author, book].map { |subject| subject.notes.create! }
assert_made_by_idgen [author, book, *notes].map(&:id)
assert Book.find(book.id).author == author
assert Note.find(notes.last.id).subject == book

# The ids follow the order of the rows.
names = (1..2000).map { |i| "author #{i}" }
ids = Author.insert_all!(names.map { |name| { name: name } }, returning: :id).rows.flatten
assert_made_by_idgen ids
assert Author.order(:id).offset(1).pluck(:id, :name) == ids.zip(names)
ids = Book.insert_all!(ids.map { |id| { title: "book", author_id: id } }, returning: %w[id]).rows.flatten
assert_made_by_idgen ids
assert Author.find(Book.find(ids.last).author_id).name == "author 2000"

# Fixtures bring small keys of their own, and set the sequence that a table has to its largest.
File.write("#{Tasks.db_dir}/authors.yml", "butler:\n  name: Butler\n")
File.write("#{Tasks.db_dir}/books.yml", "kindred:\n  title: Kindred\n  author: butler\n")
ActiveRecord::FixtureSet.create_fixtures(Tasks.db_dir, %w[authors books])
assert Book.last.author.name == "Butler"
assert_made_by_idgen [Author.create!, Book.create!(author: Author.last), Author.create!].map(&:id)

schema = schema_of(PRIMARY)
assert schema.include?('enable_extension "idgen"')
assert schema.scan(/create_table "(\w+)", (.*), force/) == %w[authors books notes].map { |name|
  [name, 'id: :bigint, default: -> { "idgen_next()" }']
}, schema
assert !schema.match?(/idgen_(?!next\(\)")/), schema
Tasks.create(COPY)
load_schema(COPY)
assert schema_of(COPY) == schema, schema_of(COPY)
[Author, Book, Note].each(&:reset_column_information)
assert_made_by_idgen [Author.create!, Book.create!(author: Author.last), Note.create!(subject: Book.last)].map(&:id)

# schema.rb has no sequences, and so no generators. Fixtures set back what the key owns, which changes nothing in a generator's ids.
class Page < Base
end

Base.establish_connection(PRIMARY)
Base.connection.execute("SELECT idgen_create_generator('page_id', 'js_safe')")
Base.connection.create_table(:pages, id: :bigint, default: -> { "idgen_next('page_id')" })
schema = schema_of(PRIMARY)
assert schema.include?(%q[create_table "pages", id: :bigint, default: -> { "idgen_next('page_id'::regclass)" }]), schema
assert_raises(/relation "page_id" does not exist/) { load_schema(COPY) }
Base.establish_connection(PRIMARY)
assert Page.create!.id < 2**53
Base.connection.reset_pk_sequence!("pages")
Base.connection.execute("ALTER SEQUENCE page_id OWNED BY pages.id")
last = Page.maximum(:id)
assert Base.connection.select_value("SELECT last_value FROM page_id") < last
Base.connection.reset_pk_sequence!("pages")
assert Base.connection.select_value("SELECT last_value FROM page_id") == last
assert Page.create!.id > last

# A process that saw integers goes on to refuse larger numbers.
class Shelf < Base
end

Base.connection.create_table(:shelves, id: :integer)
Shelf.create!
Base.connection.execute("SELECT idgen_adopt('shelves', 'id', rewrite => true)")
assert_raises(/out of range for .*Integer with limit 4 bytes/) { Shelf.create! }
assert Shelf.count == 1
Shelf.reset_column_information # as a new process begins
assert_made_by_idgen [Shelf.create!.id]
