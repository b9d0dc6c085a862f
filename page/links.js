// An application has an address of its own in the page: #application=shop.

const KEY = 'application';

/** @param {string} name */
export function hashOf(name) {
  return `#${new URLSearchParams([[KEY, name]])}`;
}

/** The application that the page's address names; null for none. */
export function linkedApplication() {
  return new URLSearchParams(location.hash.slice(1)).get(KEY);
}

/** @param {string} name */
export function linkTo(name) {
  const link = document.createElement('a');
  link.href = hashOf(name);
  link.textContent = name;
  return link;
}
