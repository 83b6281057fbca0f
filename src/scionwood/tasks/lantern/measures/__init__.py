"""The thermometer: measures of diversity, each of a type of its own, with n, an interval, its source and what ordinary prose has."""
