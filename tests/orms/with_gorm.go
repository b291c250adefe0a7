// GORM 1: keys by a default in the model, or adopted; AutoMigrate leaves both as they are.
package main

import (
	"strings"

	"github.com/jinzhu/gorm"
	"github.com/lib/pq"
)

type gormAuthor struct {
	ID    int64 `gorm:"primary_key;type:bigint;default:idgen_next()"`
	Name  string
	Books []gormBook `gorm:"foreignkey:AuthorID"`
}

type gormBook struct { // adopted
	ID       int64
	Title    string
	AuthorID int64
	Token    int64 `gorm:"default:idgen_next()"`
}

type gormPage struct {
	ID int64 `gorm:"primary_key;type:bigint;default:idgen_next('gorm_page_id')"`
}

type gormTypeless struct {
	ID int64 `gorm:"primary_key;default:idgen_next()"`
}

type gormEdition struct {
	gorm.Model // its ID is a uint
	GormBookID uint
}

var db *gorm.DB

func main() {
	var err error
	db, err = gorm.Open("postgres", "sslmode=disable") // PGHOST and the like say where
	must(err)
	defer db.Close()
	db.LogMode(false) // of what is refused here
	must(db.Exec("SELECT idgen_create_generator('gorm_page_id', 'js_safe')").Error)
	must(db.AutoMigrate(&gormAuthor{}, &gormBook{}, &gormPage{}, &gormEdition{}).Error)
	must(db.Exec("SELECT idgen_adopt('gorm_books', 'id')").Error)

	author := gormAuthor{Name: "Le Guin", Books: []gormBook{{Title: "The Dispossessed"}, {Title: "The Telling"}}}
	must(db.Create(&author).Error)
	madeByIdgen(author.ID, author.Books[0].ID, author.Books[1].ID, author.Books[0].Token, author.Books[1].Token)
	check(author.Books[0].AuthorID == author.ID)
	var found gormAuthor
	must(db.Preload("Books").First(&found, author.ID).Error)
	check(len(found.Books) == 2 && found.Books[1] == author.Books[1])
	page := gormPage{}
	must(db.Create(&page).Error)
	check(page.ID > 0 && page.ID < 1<<53)

	// Without its type a key becomes a bigserial, which has a default.
	err = db.AutoMigrate(&gormTypeless{}).Error
	check(err != nil && strings.Contains(err.Error(), "multiple default values"))

	// Keys and references that are a uint, as in gorm.Model, get integer columns.
	check(typeOf("gorm_editions", "id") == "integer" && typeOf("gorm_editions", "gorm_book_id") == "integer")
	err = db.Create(&gormEdition{GormBookID: uint(author.Books[0].ID)}).Error
	check(err != nil && strings.Contains(err.Error(), "out of range for type integer"))
	check(db.Exec("SELECT idgen_adopt('gorm_editions', 'id')").Error != nil)
	must(db.Exec("SELECT idgen_adopt('gorm_editions', 'id', rewrite => true)").Error)
	edition := gormEdition{}
	must(db.Create(&edition).Error)
	madeByIdgen(int64(edition.ID))

	before := columns()
	check(strings.Count(before, "idgen_next(") == 5)
	must(db.AutoMigrate(&gormAuthor{}, &gormBook{}, &gormPage{}, &gormEdition{}).Error)
	check(columns() == before)
}

func columns() (all string) {
	must(db.DB().QueryRow(`SELECT string_agg(concat_ws(' ', attrelid::regclass, attname, atttypid::regtype,
			pg_get_expr(adbin, adrelid)), E'\n' ORDER BY attrelid, attnum)
		FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
		WHERE attnum > 0 AND attrelid IN (SELECT oid FROM pg_class WHERE relname LIKE 'gorm%' AND relkind = 'r')`).Scan(&all))
	return all
}

func typeOf(table, column string) (name string) {
	must(db.DB().QueryRow("SELECT atttypid::regtype FROM pg_attribute WHERE attrelid = $1::regclass AND attname = $2",
		table, column).Scan(&name))
	return name
}

func madeByIdgen(ids ...int64) {
	var made bool
	must(db.DB().QueryRow("SELECT made_by_idgen($1)", pq.Array(ids)).Scan(&made))
	check(made)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func check(held bool) {
	if !held {
		panic("not so")
	}
}
