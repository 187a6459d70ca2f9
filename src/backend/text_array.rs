//! text[] in one piece. By pgrx's road each element becomes a datum first, and Postgres copies that: it took a twentieth of a
//! bulk DELETE.

use pgrx::pg_sys;

/// What an array of one dimension begins with: its length, and as many numbers as are set below.
const HEADER: usize = 6 * size_of::<i32>();

/// The array of `texts`, in the current memory context.
pub fn text_array<'a>(texts: impl Iterator<Item = Option<&'a str>> + Clone) -> pg_sys::Datum {
    let array = bytes(texts);
    // SAFETY: a copy of a whole array value; palloc refuses what is too long for one.
    unsafe {
        let copy = pg_sys::palloc(array.len()).cast::<u8>();
        core::ptr::copy_nonoverlapping(array.as_ptr(), copy, array.len());
        pgrx::set_varsize_4b(copy.cast(), array.len() as i32);
        pg_sys::Datum::from(copy)
    }
}

/// The array as Postgres lays it out (utils/array.h), but for its length.
fn bytes<'a>(texts: impl Iterator<Item = Option<&'a str>> + Clone) -> Vec<u8> {
    let count = texts.clone().count();
    let has_nulls = texts.clone().any(|text| text.is_none());
    let bitmap = if has_nulls { count.div_ceil(8) } else { 0 };
    let start = (HEADER + bitmap).next_multiple_of(pg_sys::MAXIMUM_ALIGNOF as usize);
    let mut array = vec![0; start];
    let (dimensions, first) = (1, 1);
    let data_offset = if has_nulls { start as i32 } else { 0 };
    let numbers = [0, dimensions, data_offset, pg_sys::TEXTOID.to_u32() as i32, count as i32, first];
    for (place, number) in array.chunks_exact_mut(size_of::<i32>()).zip(numbers) {
        place.copy_from_slice(&number.to_ne_bytes());
    }
    for (i, text) in texts.enumerate() {
        let Some(text) = text else { continue };
        if has_nulls {
            array[HEADER + i / 8] |= 1 << (i % 8);
        }
        array.extend(length_word(size_of::<u32>() + text.len()).to_ne_bytes());
        array.extend(text.as_bytes());
        array.resize(array.len().next_multiple_of(align_of::<i32>()), 0);
    }
    array
}

/// What a varlena of this length in bytes begins with.
fn length_word(length: usize) -> u32 {
    if cfg!(target_endian = "big") { length as u32 } else { (length as u32) << 2 }
}
