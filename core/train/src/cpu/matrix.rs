//! Views of matrices in memory and their products, by the `gemm` crate that burn's CPU backend uses:
//! any strides, so that neither transposes nor the columns of a head are ever copied.

use std::marker::PhantomData;
use std::ops::Range;

use gemm::Parallelism;

/// A matrix to read. `(rows, columns)`, any strides.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after another.
    ///
    /// # Panics
    /// When there are not exactly `rows` of them.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Matrix<'a> {
        assert_eq!(values.len(), rows * columns, "{rows} x {columns}");
        Matrix { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The transpose, of the same values.
    pub(crate) fn t(self) -> Matrix<'a> {
        let Matrix { values, rows, columns, row_stride, column_stride } = self;
        let (row_stride, column_stride) = (column_stride, row_stride);
        Matrix { values, rows: columns, columns: rows, row_stride, column_stride }
    }

    /// How many rows.
    pub(crate) fn rows(self) -> usize {
        self.rows
    }

    /// How many columns.
    pub(crate) fn columns(self) -> usize {
        self.columns
    }

    /// One row of a matrix that is not transposed.
    pub(crate) fn row(self, row: usize) -> &'a [f32] {
        assert!(self.column_stride == 1 && row < self.rows, "a row that lies in one piece");
        &self.values[row * self.row_stride..][..self.columns]
    }

    /// Some of its rows and columns.
    pub(crate) fn part(self, rows: Range<usize>, columns: Range<usize>) -> Matrix<'a> {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "a part of the whole");
        let start = rows.start * self.row_stride + columns.start * self.column_stride;
        let (rows, columns) = (rows.len(), columns.len());
        let values = if rows == 0 || columns == 0 { &[] } else { &self.values[start..] };
        Matrix { values, rows, columns, ..self }
    }
}

/// A matrix to write: contiguous columns, rows at any distance.
pub(crate) struct MatrixMut<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    values: PhantomData<&'a mut [f32]>,
}

#[expect(unsafe_code, reason = "a view of exclusive elements, like &mut [f32], may go to a thread")]
unsafe impl Send for MatrixMut<'_> {}

impl<'a> MatrixMut<'a> {
    /// Rows one after another.
    ///
    /// # Panics
    /// When there are not exactly `rows` of them.
    pub(crate) fn new(values: &'a mut [f32], rows: usize, columns: usize) -> MatrixMut<'a> {
        assert_eq!(values.len(), rows * columns, "{rows} x {columns}");
        let start = values.as_mut_ptr();
        MatrixMut { start, rows, columns, row_stride: columns, values: PhantomData }
    }

    /// Cuts it into blocks of so many rows and columns, row of blocks by row of blocks. Like
    /// `chunks_exact_mut`, but a block's rows lie apart.
    ///
    /// # Panics
    /// When it cannot be cut so without a rest.
    pub(crate) fn blocks(self, rows: usize, columns: usize) -> Vec<MatrixMut<'a>> {
        let whole = self.rows.is_multiple_of(rows) && self.columns.is_multiple_of(columns);
        assert!(whole, "{} x {} in blocks of {rows} x {columns}", self.rows, self.columns);
        let mut blocks = Vec::new();
        for row in (0..self.rows).step_by(rows) {
            for column in (0..self.columns).step_by(columns) {
                #[expect(
                    unsafe_code,
                    reason = "the offset is inside, and no two blocks share an element"
                )]
                let start = unsafe { self.start.add(row * self.row_stride + column) };
                blocks.push(MatrixMut { start, rows, columns, ..self });
            }
        }
        blocks
    }

    /// Some of its rows and columns, for as long as they are borrowed.
    pub(crate) fn part(&mut self, rows: Range<usize>, columns: Range<usize>) -> MatrixMut<'_> {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "a part of the whole");
        let offset = rows.start * self.row_stride + columns.start;
        #[expect(unsafe_code, reason = "checked to be inside")]
        let start = unsafe {
            self.start.add(if rows.is_empty() || columns.is_empty() { 0 } else { offset })
        };
        let row_stride = self.row_stride;
        MatrixMut {
            start,
            rows: rows.len(),
            columns: columns.len(),
            row_stride,
            values: PhantomData,
        }
    }

    /// One row.
    #[cfg(test)]
    fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        #[expect(unsafe_code, reason = "a row's elements are contiguous and borrowed with self")]
        unsafe {
            std::slice::from_raw_parts_mut(self.start.add(row * self.row_stride), self.columns)
        }
    }
}

/// What becomes of the values that a product finds in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Onto {
    /// They are replaced.
    Nothing,
    /// The product is added to them.
    Old,
}

/// Multiplications from which a product is worth the whole thread pool.
const PARALLEL_FROM: usize = 192 * 192 * 192;

/// `out = a b` or `out += a b`, on all threads where it is large enough.
pub(crate) fn multiply(out: MatrixMut<'_>, onto: Onto, a: Matrix<'_>, b: Matrix<'_>) {
    let work = a.rows * a.columns * b.columns;
    let threads = if work < PARALLEL_FROM { Parallelism::None } else { Parallelism::Rayon(0) };
    product(out, onto, a, b, threads);
}

/// `a b`, its rows one after another. Nothing writes the memory before the product does: zeros first
/// would cost a tenth of a product with few terms.
///
/// # Panics
/// When the product has no terms.
pub(crate) fn product_of(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    assert!(a.columns > 0, "a product without terms writes nothing");
    let (rows, columns) = (a.rows, b.columns);
    let mut values = Vec::with_capacity(rows * columns);
    let start = values.as_mut_ptr();
    let out = MatrixMut { start, rows, columns, row_stride: columns, values: PhantomData };
    multiply(out, Onto::Nothing, a, b);
    #[expect(unsafe_code, reason = "the product has written every element, and read none")]
    unsafe {
        values.set_len(rows * columns);
    }
    values
}

/// [`multiply`] on this thread alone, from within a parallel task.
pub(crate) fn multiply_here(out: MatrixMut<'_>, onto: Onto, a: Matrix<'_>, b: Matrix<'_>) {
    product(out, onto, a, b, Parallelism::None);
}

fn product(out: MatrixMut<'_>, onto: Onto, a: Matrix<'_>, b: Matrix<'_>, threads: Parallelism) {
    assert_eq!(
        (out.rows, out.columns, a.columns),
        (a.rows, b.columns, b.rows),
        "shapes of a product"
    );
    let signed = |stride: usize| stride as isize;
    #[expect(unsafe_code, reason = "all three views were checked against their memory when made")]
    unsafe {
        gemm::gemm(
            out.rows,
            out.columns,
            a.columns,
            out.start,
            1,
            signed(out.row_stride),
            onto == Onto::Old,
            a.values.as_ptr(),
            signed(a.column_stride),
            signed(a.row_stride),
            b.values.as_ptr(),
            signed(b.column_stride),
            signed(b.row_stride),
            1.0,
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|n| ((n * 7 + 3) % 11) as f32 - 5.0).collect()
    }

    /// The definition, element by element.
    fn expected(
        a: impl Fn(usize, usize) -> f32,
        b: impl Fn(usize, usize) -> f32,
        inner: usize,
        at: (usize, usize),
    ) -> f32 {
        (0..inner).map(|k| a(at.0, k) * b(k, at.1)).sum()
    }

    #[test]
    fn products_of_parts_and_transposes_are_those_of_the_definition() {
        let (a, b) = (numbers(6 * 8), numbers(5 * 9));
        let mut out = vec![100.0; 4 * 7];
        // Rows 1 to 4 and columns 2 to 6 of a, times columns 0 to 3 of b transposed.
        let view = Matrix::new(&a, 6, 8).part(1..4, 2..6);
        let right = Matrix::new(&b, 5, 9).part(0..3, 1..5).t();
        let mut whole = MatrixMut::new(&mut out, 4, 7);
        multiply(whole.part(1..4, 3..6), Onto::Old, view, right);
        for row in 0..4 {
            for column in 0..7 {
                let inside = (1..4).contains(&row) && (3..6).contains(&column);
                let product = || {
                    expected(
                        |i, k| a[(i + 1) * 8 + k + 2],
                        |k, j| b[j * 9 + k + 1],
                        4,
                        (row - 1, column - 3),
                    )
                };
                let value = if inside { 100.0 + product() } else { 100.0 };
                assert_eq!(out[row * 7 + column], value, "{row} {column}");
            }
        }
    }

    #[test]
    fn what_a_product_replaces_is_never_read() {
        // One row or column and few terms take other ways through gemm than large products.
        for (rows, inner, columns) in
            [(1, 1, 1), (1, 300, 70), (70, 300, 1), (1, 700, 1), (3, 2, 5), (200, 600, 210)]
        {
            let (a, b) = (numbers(rows * inner), numbers(columns * inner));
            for transposed in [false, true] {
                let left = Matrix::new(&a, rows, inner);
                let right = match transposed {
                    false => Matrix::new(&b, inner, columns),
                    true => Matrix::new(&b, columns, inner).t(),
                };
                let mut out = vec![f32::NAN; rows * columns];
                multiply(MatrixMut::new(&mut out, rows, columns), Onto::Nothing, left, right);
                assert!(out.iter().all(|value| value.is_finite()), "{rows} {inner} {columns}");
                assert_eq!(product_of(left, right), out, "{rows} {inner} {columns}");
            }
        }
    }

    #[test]
    fn blocks_cover_every_element_once() {
        let mut values = vec![0.0; 4 * 6];
        for (number, mut block) in
            MatrixMut::new(&mut values, 4, 6).blocks(2, 3).into_iter().enumerate()
        {
            for row in 0..2 {
                block.row(row).iter_mut().for_each(|value| *value += 1.0 + number as f32);
            }
        }
        let row = |a: f32, b: f32| vec![a, a, a, b, b, b];
        assert_eq!(values, [row(1.0, 2.0), row(1.0, 2.0), row(3.0, 4.0), row(3.0, 4.0)].concat());
    }
}
