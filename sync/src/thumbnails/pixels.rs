//! A decoded picture: scaling and rotation.

use zeroize::Zeroizing;

use super::exif::Orientation;

/// A picture, row after row from the top, each pixel `channels` bytes.
pub(super) struct Pixels {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    pub(super) data: Zeroizing<Vec<u8>>,
}

impl Pixels {
    /// None if the number of bytes does not match width and height, or is zero.
    pub(super) fn new(
        width: usize,
        height: usize,
        channels: usize,
        data: Zeroizing<Vec<u8>>,
    ) -> Option<Self> {
        let fits = !data.is_empty() && width.checked_mul(height)?.checked_mul(channels)? == data.len();
        fits.then_some(Self { width, height, channels, data })
    }

    /// The picture scaled down so that its longest edge is at most `edge` pixels. Keeps the aspect ratio.
    pub(super) fn within(&self, edge: u16) -> Self {
        let longest = self.width.max(self.height);
        let edge = usize::from(edge).clamp(1, longest);
        let side = |side: usize| ((side * edge + longest / 2) / longest).max(1);
        self.narrowed(side(self.width)).narrowed(side(self.height))
    }

    /// The picture with `width` columns, each the mean of the columns that it covers, and transposed. Two calls
    /// restore the orientation.
    fn narrowed(&self, width: usize) -> Self {
        let (channels, height) = (self.channels, self.height);
        let mut data = Zeroizing::new(vec![0; width * height * channels]);
        for (y, row) in self.data.chunks_exact(self.width * channels).enumerate() {
            for x in 0..width {
                // In units of an original column divided by `width`, so that all values are integers.
                let (from, to) = (x * self.width, (x + 1) * self.width);
                let covered = from / width..to.div_ceil(width);
                for channel in 0..channels {
                    let sum: usize = covered
                        .clone()
                        .map(|column| {
                            let overlap = to.min((column + 1) * width) - from.max(column * width);
                            overlap * usize::from(row[column * channels + channel])
                        })
                        .sum();
                    let mean = (sum + self.width / 2) / self.width;
                    data[(x * height + y) * channels + channel] = u8::try_from(mean).unwrap_or(u8::MAX);
                }
            }
        }
        Self { width: height, height: width, channels, data }
    }

    /// The picture in its displayed orientation.
    pub(super) fn turned(self, turn: Orientation) -> Self {
        if turn == Orientation::default() {
            return self;
        }
        let (width, height) = match turn.transposed {
            true => (self.height, self.width),
            false => (self.width, self.height),
        };
        let mut data = Zeroizing::new(Vec::with_capacity(self.data.len()));
        for y in 0..height {
            for x in 0..width {
                let x = if turn.mirrored { width - 1 - x } else { x };
                let y = if turn.upturned { height - 1 - y } else { y };
                let (x, y) = if turn.transposed { (y, x) } else { (x, y) };
                let at = (y * self.width + x) * self.channels;
                data.extend_from_slice(&self.data[at..at + self.channels]);
            }
        }
        Self { width, height, channels: self.channels, data }
    }
}
