//! Lines of text on sheets of A4, in a font that every reader of PDF has.
//!
//! No font is embedded: Courier is one of the fourteen that each reader brings (ISO 32000-1, section 9.6.2.2), and its
//! letters are 0.6 of its size wide, so that columns stand without being measured. Letters that Windows-1252 lacks become
//! question marks. The same lines give the same bytes.

use pdf_writer::{Content, Name, Pdf, Rect, Ref, Str, TextStr};

/// Points.
const WIDTH: f32 = 595.0;
const HEIGHT: f32 = 842.0;
const MARGIN: f32 = 36.0;
/// 108 letters of 0.6 of this fit between the margins.
const FONT_SIZE: f32 = 8.0;
const LEADING: f32 = 11.0;
/// Lines of one sheet.
const LINES_PER_PAGE: usize = 68;
const FONT: Name<'static> = Name(b"F1");

const CATALOG: Ref = Ref::new(1);
const PAGES: Ref = Ref::new(2);
const COURIER: Ref = Ref::new(3);
const INFO: Ref = Ref::new(4);
/// Each page has two: itself and its content.
const FIRST_PAGE: i32 = 5;

pub(super) fn pdf(title: &str, lines: &[String]) -> Vec<u8> {
    let mut pdf = Pdf::new();
    let pages: Vec<&[String]> = lines.chunks(LINES_PER_PAGE).collect();
    let page_ref = |n: usize| Ref::new(FIRST_PAGE + 2 * n as i32);
    pdf.catalog(CATALOG).pages(PAGES);
    pdf.document_info(INFO).title(TextStr(title)).producer(TextStr("Bourse"));
    pdf.pages(PAGES).kids((0..pages.len()).map(page_ref)).count(pages.len() as i32);
    pdf.type1_font(COURIER).base_font(Name(b"Courier")).encoding_predefined(Name(b"WinAnsiEncoding"));
    for (n, lines) in pages.iter().enumerate() {
        let content = Ref::new(page_ref(n).get() + 1);
        let mut page = pdf.page(page_ref(n));
        page.media_box(Rect::new(0.0, 0.0, WIDTH, HEIGHT)).parent(PAGES).contents(content);
        page.resources().fonts().pair(FONT, COURIER);
        drop(page);
        let foot = format!("{} / {}", n + 1, pages.len());
        pdf.stream(content, &sheet(lines, &foot));
    }
    pdf.finish()
}

fn sheet(lines: &[String], foot: &str) -> Vec<u8> {
    let mut content = Content::new();
    content.begin_text().set_font(FONT, FONT_SIZE).set_leading(LEADING);
    content.next_line(MARGIN, HEIGHT - MARGIN - FONT_SIZE);
    for line in lines {
        content.show(Str(&win_ansi(line))).next_line_using_leading();
    }
    content.end_text();
    content.begin_text().set_font(FONT, FONT_SIZE).next_line(MARGIN, MARGIN / 2.0);
    content.show(Str(foot.as_bytes())).end_text();
    content.finish().into_vec()
}

/// Latin-1 is Windows-1252 but for 32 places, which hold control characters there.
fn win_ansi(text: &str) -> Vec<u8> {
    let byte = |letter: char| match u32::from(letter) {
        code @ (0x20..=0x7E | 0xA0..=0xFF) => code as u8,
        _ => b'?',
    };
    text.chars().map(byte).collect()
}
