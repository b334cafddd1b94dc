//! The web pages that a Stallmesh node serves, embedded in its binary. No outside host, no inline script or style.

/// One file of a page.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Its media type.
    pub content_type: &'static str,
    /// Its bytes.
    pub bytes: &'static [u8],
}

/// Where the pages begin: addresses that people open, with the node's token.
pub const PAGES: &[&str] = &["/", "/till"];

/// The till page as its build made it: (path, media type, bytes). Without Node.js a page that says so, alone.
const TILL: &[(&str, &str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/till.rs"));

/// The file at a path of the site.
pub fn asset(path: &str) -> Option<Asset> {
    let (content_type, bytes): (_, &[u8]) = match path {
        "/" => ("text/html; charset=utf-8", include_bytes!("../pages/index.html")),
        "/dashboard.js" => ("text/javascript; charset=utf-8", include_bytes!("../pages/dashboard.js")),
        "/dashboard.css" => ("text/css; charset=utf-8", include_bytes!("../pages/dashboard.css")),
        "/icon.svg" => ("image/svg+xml", include_bytes!("../pages/icon.svg")),
        _ => {
            let (_, content_type, bytes) = TILL.iter().find(|(known, _, _)| *known == path)?;
            (*content_type, *bytes)
        }
    };
    Some(Asset { content_type, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_name_no_other_host_and_carry_no_inline_code() {
        let pages = ["/", "/dashboard.js", "/dashboard.css", "/icon.svg"];
        for path in pages.into_iter().chain(TILL.iter().map(|(path, _, _)| *path)) {
            let text = asset(path).map(|asset| String::from_utf8_lossy(asset.bytes).into_owned()).unwrap_or_default();
            // Addresses that are names, and that nothing is fetched from.
            let text = text
                .replace("http://www.w3.org/2000/svg", "")
                .replace("http://www.w3.org/1999/xhtml", "")
                .replace("http://www.w3.org/1998/Math/MathML", "")
                // Where the library's errors are explained.
                .replace("https://svelte.dev/e/", "");
            assert!(!text.is_empty(), "{path}");
            assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("//cdn"), "{path}");
            assert!(!text.contains("style=\"") && !text.contains("onclick="), "{path}");
            if !path.starts_with("/till/") {
                assert!(!text.contains("innerHTML"), "{path}");
            }
        }
    }
}
