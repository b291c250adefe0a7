# Rails: keys by a default in create_table, and keys of an ordinary model that idgen_adopt() took over; schema.rb holds all of
# it that is the application's, and nothing of idgen but the extension.

gem "activerecord"
gem "pg"
require "active_record"

def connect(database)
  ActiveRecord::Base.establish_connection(adapter: "postgresql", database: database)
  ActiveRecord::Base.connection
end

def dump
  schema = StringIO.new
  ActiveRecord::SchemaDumper.dump(ActiveRecord::Base.connection, schema)
  schema.string
end

def check(what, is_so)
  raise what unless is_so
end

class CreateLibrary < ActiveRecord::Migration[6.1]
  def up
    enable_extension "idgen"
    create_table :authors, id: :bigint, default: -> { "idgen_next()" } do |t|
      t.text :name
    end
    create_table :books do |t|
      t.text :title
      t.references :author, foreign_key: true
    end
    execute "SELECT idgen_adopt('books', 'id')"
  end
end

class Author < ActiveRecord::Base
  has_many :books
end

class Book < ActiveRecord::Base
  belongs_to :author
end

def check_ids(ids)
  quoted = ids.join(",")
  made = Author.connection.select_value(<<~SQL)
    SELECT count(DISTINCT id) = #{ids.size} AND bool_and(machine = 1 AND at BETWEEN now() - interval '1 hour' AND now() + interval '1 hour')
    FROM unnest('{#{quoted}}'::bigint[]) id, idgen_decode(id)
  SQL
  check "these are no ids of idgen: #{quoted}", made
end

orms = connect(ENV["PGDATABASE"])
orms.create_database("library")
orms.create_database("library_copy")
connect("library")
ActiveRecord::Migration.suppress_messages { CreateLibrary.new.migrate(:up) }

author = Author.create!(name: "Le Guin")
book = author.books.create!(title: "The Dispossessed")
check_ids [author.id, book.id]
check "the book is not the author's", Author.includes(:books).find(author.id).books.map(&:id) == [book.id]
rows = (1..2000).map { |i| { name: "author #{i}" } }
ids = Author.insert_all(rows, returning: %w[id name]).to_a
check_ids ids.map { |row| row["id"] }
check "ids do not follow the order of the rows", ids.sort_by { |row| row["id"] }.map { |row| row["name"] } == rows.map { |row| row[:name] }

schema = dump
check schema, schema.include?('create_table "authors", id: :bigint, default: -> { "idgen_next()" }, force: :cascade')
check schema, schema.include?('create_table "books", id: :bigint, default: -> { "idgen_next()" }, force: :cascade')
check schema, schema.lines.grep(/idgen/).size == 3 && schema.include?('enable_extension "idgen"')

connect("library_copy")
ActiveRecord::Migration.suppress_messages { eval(schema) }
check dump, dump == schema
check_ids [Author.create!(name: "Lem").id]
