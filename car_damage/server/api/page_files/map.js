/* Draws where in a photo the damage was seen. */

const LONGEST = 480;
/** Opacity where most speaks for the damage, of 255. */
const OPAQUE = 190;

/** Draw a photo and its map, rows of numbers from 0 to 1. A photo that the browser cannot show is left out. */
export async function draw(canvas, url, map) {
  const photo = await loaded(url);
  const [width, height] = photo ? [photo.naturalWidth, photo.naturalHeight] : [map[0].length, map.length];
  const scale = LONGEST / Math.max(width, height);
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const paper = canvas.getContext("2d");
  if (photo) paper.drawImage(photo, 0, 0, canvas.width, canvas.height);
  paper.imageSmoothingQuality = "high";
  paper.drawImage(heat(map), 0, 0, canvas.width, canvas.height);
}

/** The map as a picture with one pixel a place. */
function heat(map) {
  const small = document.createElement("canvas");
  small.width = map[0].length;
  small.height = map.length;
  const paper = small.getContext("2d");
  const image = paper.createImageData(small.width, small.height);
  map.flat().forEach((seen, place) => image.data.set([255, Math.round(200 * (1 - seen)), 0, Math.round(OPAQUE * seen)], place * 4));
  paper.putImageData(image, 0, 0);
  return small;
}

function loaded(url) {
  return new Promise((resolve) => {
    const image = new Image();
    image.addEventListener("load", () => resolve(image));
    image.addEventListener("error", () => resolve(null));
    image.src = url;
  });
}
