//! Values of any type, as text and as datums: a column's type, and what its own functions make of it.

use std::ffi::CStr;

use pgrx::datum::DatumWithOid;
use pgrx::{FromDatum, IntoDatum, PgTupleDesc, pg_sys};

use crate::backend::ident::ident;
use crate::backend::identity::{c_string, with_settings};
use crate::backend::subtransaction::reworded;
use crate::error::{Error, Result};
use crate::table::key_text::{self, Json};

/// What text a value of some types has depends on these; a key's text must not.
const PLAIN_TEXT: [(&CStr, &CStr); 5] = [
    (c"DateStyle", c"ISO, YMD"),
    (c"TimeZone", c"UTC"),
    (c"IntervalStyle", c"postgres"),
    (c"bytea_output", c"hex"),
    (c"extra_float_digits", c"3"),
];

/// The name of a type to cast to, with its schema: without a length that would cut values off, as `character` alone has.
fn type_sql(kind: pg_sys::Oid) -> String {
    let flags = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY;
    // SAFETY: returns a fresh C string.
    unsafe { text_of(pg_sys::format_type_extended(kind, -1, flags as u16)) }
}

/// Whether a type is a domain, or made of types one of which is.
fn contains_domain(kind: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups of a type that a column has. No type is a part of itself.
    unsafe {
        match pg_sys::get_typtype(kind) as u8 {
            pg_sys::TYPTYPE_DOMAIN => true,
            pg_sys::TYPTYPE_RANGE => contains_domain(pg_sys::get_range_subtype(kind)),
            pg_sys::TYPTYPE_MULTIRANGE => contains_domain(pg_sys::get_multirange_range(kind)),
            pg_sys::TYPTYPE_COMPOSITE => PgTupleDesc::for_composite_type_by_oid(kind).is_some_and(|row| {
                row.iter().filter(|part| !part.is_dropped()).any(|part| contains_domain(part.type_oid().value()))
            }),
            _ => {
                let element = pg_sys::get_element_type(kind);
                element != pg_sys::InvalidOid && contains_domain(element)
            }
        }
    }
}

/// A type as a column has it.
#[derive(Debug, Clone)]
pub struct ColumnType {
    /// The type as declared; of a domain, the domain.
    declared: pg_sys::Oid,
    modifier: i32,
    /// The type to compare and pass along; of a domain, what it stands on.
    base: pg_sys::Oid,
    base_modifier: i32,
    length: i16,
    by_value: bool,
    alignment: core::ffi::c_char,
    output: pg_sys::Oid,
}

impl ColumnType {
    pub fn new(declared: pg_sys::Oid, modifier: i32) -> Self {
        let mut this = ColumnType {
            declared,
            modifier,
            base: pg_sys::InvalidOid,
            base_modifier: modifier,
            length: 0,
            by_value: false,
            alignment: 0,
            output: pg_sys::InvalidOid,
        };
        let mut is_varlena = false;
        // SAFETY: catalog look-ups of a type that a column has.
        unsafe {
            this.base = pg_sys::getBaseTypeAndTypmod(declared, &mut this.base_modifier);
            pg_sys::get_typlenbyvalalign(this.base, &mut this.length, &mut this.by_value, &mut this.alignment);
            pg_sys::getTypeOutputInfo(this.base, &mut this.output, &mut is_varlena);
        }
        this
    }

    pub fn base(&self) -> pg_sys::Oid {
        self.base
    }

    pub fn declared(&self) -> pg_sys::Oid {
        self.declared
    }

    /// Of a type with a precision: that, or -1 where none is declared.
    pub fn modifier(&self) -> i32 {
        self.modifier
    }

    /// Whether values have parts, of types that may have checks of their own: a composite, a range, an array.
    pub fn has_parts(&self) -> bool {
        // SAFETY: catalog look-ups.
        let (kind, element) = unsafe { (pg_sys::get_typtype(self.base) as u8, pg_sys::get_element_type(self.base)) };
        ![pg_sys::TYPTYPE_BASE, pg_sys::TYPTYPE_ENUM].contains(&kind) || element != pg_sys::InvalidOid
    }

    /// How the type has its values stored: p, e, m or x.
    pub fn storage(&self) -> String {
        // SAFETY: a catalog look-up of a type that a column has.
        char::from(unsafe { pg_sys::get_typstorage(self.declared) } as u8).to_string()
    }

    /// Whether it is declared as the same type, with the same modifier.
    pub fn is_same(&self, other: &ColumnType) -> bool {
        (self.declared, self.modifier) == (other.declared, other.modifier)
    }

    pub fn array(&self) -> pg_sys::Oid {
        // SAFETY: a catalog look-up.
        unsafe { pg_sys::get_array_type(self.base) }
    }

    /// The name to cast to, with schema and modifier.
    pub fn sql(&self) -> String {
        let flags = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY;
        // SAFETY: returns a fresh C string.
        unsafe { text_of(pg_sys::format_type_extended(self.declared, self.modifier, flags as u16)) }
    }

    /// `OPERATOR(schema.name)` of the type's equality, if it has one.
    pub fn equals(&self) -> Option<String> {
        self.operator(pg_sys::TYPECACHE_EQ_OPR, |entry| entry.eq_opr)
    }

    /// The same, or Postgres' own of a type that has none.
    pub fn equality(&self) -> String {
        self.equals().unwrap_or("OPERATOR(pg_catalog.=)".into())
    }

    /// `OPERATOR(schema.name)` of what comes after in the type's order, if it has one.
    pub fn after(&self) -> Option<String> {
        self.operator(pg_sys::TYPECACHE_GT_OPR, |entry| entry.gt_opr)
    }

    fn operator(&self, which: u32, of: fn(&pg_sys::TypeCacheEntry) -> pg_sys::Oid) -> Option<String> {
        // SAFETY: the type cache's entries live for ever; the look-ups return fresh C strings.
        unsafe {
            let operator = of(&*pg_sys::lookup_type_cache(self.base, which as i32));
            (operator != pg_sys::InvalidOid).then(|| operator_sql(operator))
        }
    }

    /// How a value of this type is written in a composite key.
    pub fn json(&self) -> Json {
        match self.base {
            pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID => Json::Number,
            pg_sys::BOOLOID => Json::Boolean,
            _ => Json::String,
        }
    }

    /// The type behind a domain, to cast to.
    pub fn base_sql(&self) -> String {
        type_sql(self.base)
    }

    /// Whether values are of a domain, or have parts that are.
    pub fn has_domain(&self) -> bool {
        contains_domain(self.declared)
    }

    /// `value`, an expression of this type, with the checks of its domains, which otherwise are asked of what is cast alone. The value
    /// stays what it is, to the bit.
    pub fn checked(&self, value: &str) -> String {
        let declared = type_sql(self.declared);
        // SAFETY: catalog look-ups.
        let (element, base_of_element) = unsafe {
            let element = pg_sys::get_element_type(self.declared);
            (element, if element == pg_sys::InvalidOid { element } else { pg_sys::getBaseType(element) })
        };
        let through = if self.base != self.declared && !contains_domain(self.base) {
            type_sql(self.base)
        } else if base_of_element != element && !contains_domain(base_of_element) {
            format!("{}[]", type_sql(base_of_element))
        } else {
            "pg_catalog.text".to_string()
        };
        format!("CASE WHEN ({value}::{through})::{declared} IS NULL THEN {value} ELSE {value} END")
    }

    /// The type as a person calls it.
    fn title(&self) -> String {
        // SAFETY: returns a fresh C string.
        unsafe { text_of(pg_sys::format_type_extended(self.declared, self.modifier, pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN as u16)) }
    }

    /// The value that key text stands for: its UTF-8 bytes for bytea, else what the type's input function reads.
    ///
    /// Of a domain, what the type behind it reads, as in `WHERE id = '…'`: a domain's CHECK is its owner's code, and who asks
    /// for a record runs none of that. 22023 where it is no such value; `what` is named in the message.
    pub fn read_key(&self, text: &str, what: &str) -> Result<pg_sys::Datum> {
        let ready = match self.base {
            pg_sys::BYTEAOID => {
                key_text::text_to_bytes(text).map_err(|wrong| Error::invalid(format!("{what} {wrong}")))?.into_datum()
            }
            // The commonest keys need no input function; a spelling that only it understands still gets to it.
            pg_sys::TEXTOID => text.into_datum(),
            pg_sys::INT8OID => text.parse::<i64>().ok().into_datum(),
            _ => None,
        };
        ready.map_or_else(|| self.read_as(self.base, self.base_modifier, text, what), Ok)
    }

    /// The value that the declared type's input function reads from `text`; 22023 where it is none.
    pub fn read(&self, text: &str, what: &str) -> Result<pg_sys::Datum> {
        self.read_as(self.declared, self.modifier, text, what)
    }

    fn read_as(&self, kind: pg_sys::Oid, modifier: i32, text: &str, what: &str) -> Result<pg_sys::Datum> {
        let read = || {
            let (mut input, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            let text = c_string(text);
            // SAFETY: the type's own input function, called as Postgres calls it.
            unsafe {
                pg_sys::getTypeInputInfo(kind, &mut input, &mut parameter);
                pg_sys::OidInputFunctionCall(input, text.as_ptr().cast_mut(), parameter, modifier)
            }
        };
        let plain = || with_settings(self.text_settings(), read);
        reworded(plain, |error| {
            Error::invalid(format!("{what} is not a value of type {}", self.title())).detail(error.summary())
        })
    }

    /// Whether two values are the same to the last bit: then they are equal, whatever the type calls equal.
    ///
    /// # Safety
    /// Both are values of this type.
    pub unsafe fn identical(&self, one: pg_sys::Datum, other: pg_sys::Datum) -> bool {
        // SAFETY: by contract of this function.
        unsafe { pg_sys::datumIsEqual(one, other, self.by_value, self.length as i32) }
    }

    /// Whether values of this type can name records: they can be compared, and listed. A row listed is its columns, and no value.
    pub fn names_records(&self) -> bool {
        self.equals().is_some() && self.array() != pg_sys::InvalidOid && !self.is_row()
    }

    /// Whether equal values have the same key text, whatever a collation calls equal. False where that is not known.
    pub fn has_one_spelling(&self) -> bool {
        use pg_sys::*;
        self.is_integer()
            || self.is_text()
            || [UUIDOID, BYTEAOID, BOOLOID, OIDOID, NAMEOID, DATEOID, TIMESTAMPOID, TIMESTAMPTZOID].contains(&self.base)
    }

    /// Whether values of this type are integers.
    pub fn is_integer(&self) -> bool {
        [pg_sys::INT2OID, pg_sys::INT4OID, pg_sys::INT8OID].contains(&self.base)
    }

    /// Whether values of this type are text as they stand.
    pub fn is_text(&self) -> bool {
        [pg_sys::TEXTOID, pg_sys::VARCHAROID].contains(&self.base)
    }

    /// Whether values of this type are rows.
    pub fn is_row(&self) -> bool {
        // SAFETY: a catalog look-up.
        let kind = || unsafe { pg_sys::get_typtype(self.base) } as u8;
        self.base == pg_sys::RECORDOID || kind() == pg_sys::TYPTYPE_COMPOSITE
    }

    /// The key text of a value.
    ///
    /// # Safety
    /// `datum` is a value of this type.
    pub unsafe fn write_key(&self, datum: pg_sys::Datum) -> String {
        // SAFETY: by contract of this function.
        unsafe {
            match self.base {
                pg_sys::INT8OID => datum.value().cast_signed().to_string(),
                pg_sys::INT4OID => (datum.value() as i32).to_string(),
                pg_sys::TEXTOID | pg_sys::VARCHAROID => String::from_datum(datum, false).unwrap_or_default(),
                pg_sys::BYTEAOID => <&[u8]>::from_datum(datum, false).map(key_text::bytes_to_text).unwrap_or_default(),
                _ => with_settings(self.text_settings(), || text_of(pg_sys::OidOutputFunctionCall(self.output, datum))),
            }
        }
    }

    /// The number that a value of an integer type is.
    pub fn integer(&self, value: pg_sys::Datum) -> i64 {
        match self.base {
            pg_sys::INT2OID => i64::from(value.value() as i16),
            pg_sys::INT4OID => i64::from(value.value() as i32),
            _ => value.value().cast_signed() as i64,
        }
    }

    /// An array parameter of `values`.
    pub fn array_of<'a>(&self, mut values: Vec<pg_sys::Datum>) -> DatumWithOid<'a> {
        // SAFETY: builds an array of values of this type; the parameter is typed as that array.
        unsafe {
            let (count, datums) = (values.len() as i32, values.as_mut_ptr());
            let array = pg_sys::construct_array(datums, count, self.base, self.length as i32, self.by_value, self.alignment);
            DatumWithOid::new(pg_sys::Datum::from(array), self.array())
        }
    }

    /// The elements of an array of this type.
    ///
    /// # Safety
    /// `array` is an array whose elements are of this type.
    pub unsafe fn elements(&self, array: pg_sys::Datum) -> Vec<Option<pg_sys::Datum>> {
        let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        // SAFETY: by contract of this function; Postgres returns as many values, and whether each is NULL.
        unsafe {
            let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
            let (length, alignment) = (self.length as i32, self.alignment);
            pg_sys::deconstruct_array(
                array,
                self.base,
                length,
                self.by_value,
                alignment,
                &raw mut values,
                &raw mut nulls,
                &raw mut count,
            );
            (0..count as usize).map(|i| (!*nulls.add(i)).then(|| *values.add(i))).collect()
        }
    }

    /// A parameter of one value.
    pub fn parameter<'a>(&self, value: pg_sys::Datum) -> DatumWithOid<'a> {
        // SAFETY: a value of this type.
        unsafe { DatumWithOid::new(value, self.base) }
    }

    /// A copy of `value` in memory that lasts as long as the session.
    pub fn keep(&self, value: pg_sys::Datum) -> pg_sys::Datum {
        // SAFETY: copies a value of this type.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
            let kept = pg_sys::datumCopy(value, self.by_value, self.length as i32);
            pg_sys::MemoryContextSwitchTo(before);
            kept
        }
    }

    /// Frees what `keep` returned.
    pub fn discard(&self, kept: pg_sys::Datum) {
        if !self.by_value {
            // SAFETY: allocated by `keep`.
            unsafe { pg_sys::pfree(kept.cast_mut_ptr()) };
        }
    }

    fn text_settings(&self) -> &'static [(&'static CStr, &'static CStr)] {
        match self.base {
            pg_sys::INT2OID
            | pg_sys::UUIDOID
            | pg_sys::BOOLOID
            | pg_sys::NUMERICOID
            | pg_sys::BPCHAROID
            | pg_sys::NAMEOID
            | pg_sys::INT4OID
            | pg_sys::INT8OID
            | pg_sys::TEXTOID
            | pg_sys::VARCHAROID
            | pg_sys::OIDOID => &[],
            _ => &PLAIN_TEXT,
        }
    }
}

/// `OPERATOR(schema.name)` of an operator.
fn operator_sql(operator: pg_sys::Oid) -> String {
    // SAFETY: reads a syscache tuple while holding its pin.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::OPEROID as i32, pg_sys::Datum::from(operator));
        if tuple.is_null() {
            return "OPERATOR(pg_catalog.=)".to_string();
        }
        let form = pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_operator;
        let name = CStr::from_ptr((*form).oprname.data.as_ptr()).to_string_lossy().into_owned();
        let schema = text_of(pg_sys::get_namespace_name((*form).oprnamespace));
        pg_sys::ReleaseSysCache(tuple);
        format!("OPERATOR({}.{name})", ident(&schema))
    }
}

/// The Rust string of a fresh C string.
///
/// # Safety
/// `text` is NULL or a C string.
unsafe fn text_of(text: *const core::ffi::c_char) -> String {
    // SAFETY: by contract of this function.
    if text.is_null() { String::new() } else { unsafe { CStr::from_ptr(text).to_string_lossy().into_owned() } }
}
