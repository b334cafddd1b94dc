//! The web pages that a Stallmesh node serves, embedded in its binary. No outside host, no inline script or style.

/// One file of a page.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Its media type.
    pub content_type: &'static str,
    /// Its bytes.
    pub bytes: &'static [u8],
}

/// The file at a path of the site.
pub fn asset(path: &str) -> Option<Asset> {
    let (content_type, bytes): (_, &[u8]) = match path {
        "/" => ("text/html; charset=utf-8", include_bytes!("../pages/index.html")),
        "/dashboard.js" => ("text/javascript; charset=utf-8", include_bytes!("../pages/dashboard.js")),
        "/dashboard.css" => ("text/css; charset=utf-8", include_bytes!("../pages/dashboard.css")),
        "/icon.svg" => ("image/svg+xml", include_bytes!("../pages/icon.svg")),
        _ => return None,
    };
    Some(Asset { content_type, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_name_no_other_host_and_carry_no_inline_code() {
        for path in ["/", "/dashboard.js", "/dashboard.css", "/icon.svg"] {
            let text = asset(path).map(|asset| String::from_utf8_lossy(asset.bytes).into_owned()).unwrap_or_default();
            // The one address that is a name, and that nothing is fetched from.
            let text = text.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
            assert!(!text.is_empty(), "{path}");
            assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("//cdn"), "{path}");
            assert!(!text.contains("innerHTML") && !text.contains("style=\"") && !text.contains("onclick="), "{path}");
        }
    }
}
